"""``verdicts.csv``: cells to keep and to drop, by quality control and by hand; verdicts by hand take precedence.

The columns are cell_id, key, verdict (keep | drop), reason and qc. The last column holds the verdict of quality control
when the row was written. A row whose ``verdict`` differs from its ``qc``, or that has no ``qc``, counts as written by
the user. Later runs of quality control replace their own rows and do not change rows of the user. To keep a dropped
cell, change its verdict to keep; a deleted row returns with the next run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.schema import VERDICTS
from fastcell.dataset.tables.read_table import read_text_columns
from fastcell.errors import DataError
from fastcell.storage.whole_files import replace_file
from fastcell.system.messages import explained
from fastcell.system.text import printable

VERDICTS_FILE = "verdicts.csv"
_HINT = "Save it as CSV with a header"


class Verdicts(NamedTuple):
    """Verdicts of some cells, one per cell, in ascending order of cell_id.

    Attributes:
        cell_ids: (n,) int64.
        drop: (n,) bool.
        reasons: (n,) str, may be empty.
        by_hand: (n,) bool, True for verdicts of the user.
    """

    cell_ids: npt.NDArray[np.int64]
    drop: npt.NDArray[np.bool_]
    reasons: np.ndarray
    by_hand: npt.NDArray[np.bool_]

    def where(self, chosen: np.ndarray) -> Verdicts:
        """Return a selection of the verdicts, by (n,) bool or by indices."""
        return Verdicts(self.cell_ids[chosen], self.drop[chosen], self.reasons[chosen], self.by_hand[chosen])


def no_verdicts() -> Verdicts:
    """Return verdicts of zero cells."""
    flags = np.zeros(0, bool)
    return Verdicts(np.zeros(0, np.int64), flags, np.zeros(0, dtype=object), flags)


def merge_verdicts(first: Verdicts, *others: Verdicts) -> Verdicts:
    """Merge verdicts; for a cell in several arguments, the verdict of the first of them is used."""
    parts = [first, *others]
    joined = Verdicts(*map(np.concatenate, zip(*parts, strict=True)))
    return joined.where(np.unique(joined.cell_ids, return_index=True)[1])


def read_verdicts(path: Path, manifest: Manifest) -> Verdicts:
    """Read a table of verdicts: ``verdicts.csv``, or the ``review.csv`` that quality control writes.

    Args:
        path: CSV with ``cell_id`` or ``key``, ``verdict``, and optionally ``reason`` and ``qc``.
        manifest: the data set.

    Raises:
        DataError: the file cannot be read, a column is missing, a row does not name a cell or has no verdict, or a cell
            has two rows.
    """
    table = read_text_columns(path, ("cell_id", "key", "verdict", "reason", "qc"), _HINT)
    if "verdict" not in table.column_names:
        raise DataError(f"{path} must have a column verdict, got {_names(table)}. Add it, with keep or drop.")
    cell_ids = find_cells(table, manifest, path)
    verdict = _words(table, "verdict")
    wrong = ~np.isin(verdict, VERDICTS)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{path}: verdict must be keep or drop, got {str(verdict[row])!r} in line {row + 2:,}. Correct it."
        )
    found = Verdicts(cell_ids, verdict == "drop", _words(table, "reason"), verdict != _words(table, "qc"))
    return found.where(np.argsort(cell_ids, kind="stable"))


def write_verdicts(path: Path, manifest: Manifest, verdicts: Verdicts) -> None:
    """Write verdicts atomically, as a file that `read_verdicts` reads and that every view applies."""
    words = np.array(VERDICTS)[verdicts.drop.astype(int)]
    table = pa.table(
        {
            "cell_id": pa.array(verdicts.cell_ids),
            "key": manifest.select_cells(["key"], verdicts.cell_ids).column("key"),
            "verdict": pa.array(words, pa.string()),
            "reason": pa.array(verdicts.reasons.tolist(), pa.string()),
            "qc": pa.array(np.where(verdicts.by_hand, "", words).tolist(), pa.string()),
        }
    )
    replace_file(path, lambda file: csv.write_csv(table, file))


def apply_drops(manifest: Manifest, drop: npt.NDArray[np.bool_], reasons: np.ndarray) -> str:
    """Write the cells that quality control drops to ``verdicts.csv``, which views apply; rows of the user are kept.

    Args:
        manifest: data set of N cells.
        drop: (N,) bool.
        reasons: (N,) str.

    Returns:
        A line for the user about the file written.

    Raises:
        DataError: the existing table cannot be read, or the new one cannot be written.
    """
    path = manifest.path / VERDICTS_FILE
    old = read_verdicts(path, manifest) if path.exists() else no_verdicts()
    cell_ids = np.flatnonzero(drop)
    new = Verdicts(cell_ids, drop[cell_ids], reasons[cell_ids], np.zeros(len(cell_ids), bool))
    return _write_merged(manifest, old.where(old.by_hand), new)


def take_verdicts(manifest: Manifest, path: Path) -> str:
    """Merge an edited table of verdicts into ``verdicts.csv``.

    Edited rows become rows of the user and replace all earlier rows of their cells. The other rows apply only to cells
    without a row of the user.

    Returns:
        A line for the user about the file written.

    Raises:
        DataError: one of the tables cannot be read, or the new one cannot be written.
    """
    new, own = read_verdicts(path, manifest), manifest.path / VERDICTS_FILE
    old = read_verdicts(own, manifest) if own.exists() else no_verdicts()
    return _write_merged(manifest, new.where(new.by_hand), old.where(old.by_hand), new, old)


def _write_merged(manifest: Manifest, *parts: Verdicts) -> str:
    path, verdicts = manifest.path / VERDICTS_FILE, merge_verdicts(*parts)
    with explained(f"{path} cannot be written"):
        write_verdicts(path, manifest, verdicts)
        manifest.written(VERDICTS_FILE)
    by_hand = int(verdicts.by_hand.sum())
    hand = f"{by_hand:,} verdict{'s' * (by_hand != 1)} by hand"
    drops = f"drops {int(verdicts.drop.sum()):,} of {len(manifest):,} cells ({hand})"
    return f"wrote {printable(manifest.place_of(VERDICTS_FILE))}: {drops}; training and evaluation leave them out"


def find_cells(table: pa.Table, manifest: Manifest, path: str | os.PathLike[str]) -> npt.NDArray[np.int64]:
    """Find the cells that the rows of a table name, by its column ``cell_id`` or else ``key``.

    Returns:
        (n,) int64 cell_ids.

    Raises:
        DataError: both columns are missing, a row does not name exactly one cell of the data set, or two rows name the
            same cell.
    """
    names = [name for name in ("cell_id", "key") if name in table.column_names]
    if not names:
        raise DataError(f"{path} must have a column cell_id or key, got {_names(table)}. Add one of them.")
    name = names[0]
    words = table.column(name).fill_null("")
    ids = np.full(len(words), -1, np.int64)
    if name == "cell_id":
        text = pc.utf8_trim_whitespace(words)
        numbers = pc.match_substring_regex(text, r"^[0-9]{1,18}$").to_numpy(zero_copy_only=False)
        ids[numbers] = text.filter(pa.array(numbers)).cast(pa.int64()).to_numpy()
        ids[ids >= len(manifest)] = -1
    else:
        keys = manifest.table.column("key")
        if not pc.all(pc.string_is_ascii(keys), min_count=0).as_py():
            keys = pc.utf8_normalize(keys, "NFC")
        ids, last = (_places(words, keys.take(np.arange(len(keys))[::step])) for step in (1, -1))
        last = np.where(last >= 0, len(keys) - 1 - last, -1)
        several = (ids >= 0) & (last != ids)
        if several.any():
            row = int(np.argmax(several))
            raise DataError(f"{path}: key {words[row].as_py()!r} in line {row + 2:,} names several cells. Use cell_id.")
    if (ids < 0).any():
        row = int(np.argmax(ids < 0))
        got = repr(words[row].as_py())[:200]
        rule = f"that of a cell in {manifest.place}"
        raise DataError(f"{path}: {name} must be {rule}, got {got} in line {row + 2:,}. Correct the line.")
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(np.diff(ids[order]) == 0)
    if len(twice):
        row = int(order[twice[0] + 1])
        raise DataError(f"{path}: line {row + 2:,} names cell {words[row].as_py()!r} again. Keep one of the lines.")
    return ids


def _places(words: pa.ChunkedArray, keys: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the first position of each word in `keys`, (n,) int64; -1 where it is not."""
    places = pc.index_in(words, value_set=keys).fill_null(-1)
    return places.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


def _words(table: pa.Table, name: str) -> np.ndarray:
    """Return a column as (n,) str objects without surrounding spaces; empty strings if it does not exist."""
    if name not in table.column_names:
        return np.full(table.num_rows, "", dtype=object)
    return pc.utf8_trim_whitespace(table.column(name).fill_null("")).to_numpy(zero_copy_only=False)


def _names(table: pa.Table) -> str:
    return (table.schema.metadata or {}).get(b"names", b"").decode()[:200] or "none"
