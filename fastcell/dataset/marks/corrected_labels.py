"""Replace labels of the manifest by labels by hand, and describe them. No other module applies labels by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell.dataset.marks.journal import MARKS_FILE, read_marks
from fastcell.dataset.marks.replay import NO_CLASS, UNMARKED, MarkedCells
from fastcell.system.text import printable


def marked_cells(folder: Path, table: pa.Table) -> MarkedCells | None:
    """Return the marks on the cells of a data set; None if there are none.

    Args:
        folder: folder of the data set.
        table: rows of its manifest.

    Raises:
        DataError: ``marks.jsonl`` is damaged, or belongs to other cells.
    """
    if not (folder / MARKS_FILE).exists():
        return None
    return MarkedCells.after(read_marks(folder, table).marks, table.num_rows)


def corrected_classes(classes: Sequence[str], marked: MarkedCells) -> list[str]:
    """Return the class names, followed by new classes of labels by hand in the order of their first use.

    A new class is included only if a cell has it.
    """
    used = np.unique(marked.labels[marked.labels >= 0])
    return [*classes, *(marked.names[code] for code in used.tolist() if marked.names[code] not in classes)]


def corrected_column(recorded: pa.ChunkedArray, marked: MarkedCells) -> pa.ChunkedArray:
    """Return the classes of N cells: the label by hand if there is one, else the recorded class.

    Args:
        recorded: (N,) string, null for a cell without a class.
        marked: marks of the N cells.
    """
    rows = np.flatnonzero(marked.labels != UNMARKED)
    if not len(rows):
        return recorded
    coded = recorded.combine_chunks().dictionary_encode()
    names: list[str] = coded.dictionary.to_pylist()
    place = {name: code for code, name in enumerate(names)}
    for name in marked.names:
        if name not in place:
            place[name] = len(names)
            names.append(name)
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32).copy()
    of_name = np.array([*(place[name] for name in marked.names), -1], np.int32)
    codes[rows] = of_name[marked.labels[rows]]  # NO_CLASS is the last entry
    indices = pa.array(codes, pa.int32(), mask=codes < 0)
    column = pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string())).cast(pa.string())
    return pa.chunked_array([column])


def note_labels(marked: MarkedCells | None) -> str:
    """Return a line that says that labels by hand are used; empty if there are none."""
    num = 0 if marked is None else int(marked.labelled.sum())
    return f"{num:,} label{'s' * (num != 1)} by hand ({MARKS_FILE}) replace those recorded" if num else ""


def describe_labels(marked: MarkedCells | None, recorded: pa.ChunkedArray) -> list[str]:
    """Return a line on the labels by hand of a data set and a line on its other marks, each only if there are such
    marks.

    Args:
        marked: marks of the cells; None without marks.
        recorded: (N,) classes of the manifest on disk.
    """
    if marked is None:
        return []
    lines = []
    rows = np.flatnonzero(marked.labels != UNMARKED)
    if len(rows):
        was = recorded.take(pa.array(rows)).to_pylist()
        now = [None if code == NO_CLASS else marked.names[code] for code in marked.labels[rows].tolist()]
        new = sum(before is None and after is not None for before, after in zip(was, now, strict=True))
        changed = sum(before is not None and after != before for before, after in zip(was, now, strict=True))
        last = marked.marks[int(marked.labelled_by[rows].max())]
        who = len({marked.marks[place].who for place in np.unique(marked.labelled_by[rows]).tolist()})
        people = printable(last.who) if who == 1 else f"{who} people"
        lines.append(
            f"labels by hand: {len(rows):,} cells ({new:,} had none, {changed:,} changed, "
            f"{len(rows) - new - changed:,} confirmed), by {people}, last {printable(last.at[:16])}; "
            f"they replace those recorded"
        )
    others = [f"unsure {int(marked.unsure.sum()):,}"] if marked.unsure.any() else []
    others += [f"{printable(name)} {int(has.sum()):,}" for name, has in marked.tags.items() if has.any()]
    return lines + ([f"marks: {', '.join(others)}"] if others else [])
