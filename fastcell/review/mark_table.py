"""Marks as a table for other programs: one row per marked cell."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.replay import NO_CLASS, UNMARKED, MarkedCells
from fastcell.dataset.parquet import write_parquet
from fastcell.errors import invalid
from fastcell.storage.whole_files import replace_file


def mark_table(manifest: Manifest, marked: MarkedCells, drop: npt.NDArray[np.bool_]) -> pa.Table:
    """Return the cells with a mark: cell_id, key, recorded class, label by hand, who, when, verdict, unsure, tags.

    The column `history` lists all labels by hand of a cell that were not undone, with person and time.

    Args:
        manifest: data set of N cells.
        marked: marks of the cells.
        drop: (N,) bool, cells that ``verdicts.csv`` drops.
    """
    some = (marked.labels != UNMARKED) | marked.unsure | (marked.verdicts > 0)
    for has in marked.tags.values():
        some |= has
    rows = np.flatnonzero(some)
    recorded = manifest.recorded_classes().take(pa.array(rows)).to_pylist()
    codes = marked.labels[rows].tolist()
    by = [marked.marks[place] if place >= 0 else None for place in marked.labelled_by[rows].tolist()]
    history: dict[int, list[str]] = {cell: [] for cell in rows.tolist()}
    for mark in marked.marks:
        if (mark.label is not None or mark.reset) and mark.op not in marked.undone:
            word = f"{mark.label or ('(recorded)' if mark.reset else '(no class)')} ({mark.who} {mark.at})"
            for cell in mark.cells.tolist():
                if cell in history:
                    history[cell].append(word)
    tags = ["; ".join(name for name, has in marked.tags.items() if has[cell]) for cell in rows.tolist()]
    return pa.table(
        {
            "cell_id": pa.array(rows, pa.int64()),
            "key": manifest.select_cells(["key"], rows).column("key"),
            "recorded": pa.array(recorded, pa.string()),
            "label": pa.array([None if code < 0 else marked.names[code] for code in codes], pa.string()),
            "no_class": pa.array([code == NO_CLASS for code in codes], pa.bool_()),
            "who": pa.array([None if mark is None else mark.who for mark in by], pa.string()),
            "when": pa.array([None if mark is None else mark.at for mark in by], pa.string()),
            "verdict": pa.array(np.where(drop[rows], "drop", "keep").tolist(), pa.string()),
            "unsure": pa.array(marked.unsure[rows]),
            "tags": pa.array(tags, pa.string()),
            "history": pa.array(["; ".join(history[cell]) for cell in rows.tolist()], pa.string()),
        }
    )


def table_as_csv(table: pa.Table) -> bytes:
    """Return a table as CSV."""
    text = io.BytesIO()
    csv.write_csv(table, text)
    return text.getvalue()


def export_marks(path: Path, table: pa.Table) -> None:
    """Write a table of marks as a .csv or .parquet file.

    Raises:
        ArgumentError: the path has another ending.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise invalid("--export", "a .csv or .parquet file", str(path), "Write for example --export marks.csv")
    if path.suffix == ".parquet":
        write_parquet(path, table)
    else:
        replace_file(path, lambda file: file.write_bytes(table_as_csv(table)))
