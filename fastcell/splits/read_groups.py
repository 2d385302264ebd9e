"""Read the groups requested by `--group-by`, whose cells must stay in one subset."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import PART_ROWS
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.tables.read_table import read_text_columns
from fastcell.errors import ArgumentError, DataError, invalid
from fastcell.sources.image_folder import Pattern
from fastcell.sources.path_table import PATH_COLUMNS
from fastcell.system.text import one_name

GROUPING_WORDS = ("group", "collection", "none")
_HINT = "Name group, collection, none, a pattern such as '{group}/*/{name}', or FILE:COLUMN with cell_id or key"


class Grouping(NamedTuple):
    """Groups of the N cells of a data set.

    Attributes:
        groups: groups of the cells; None if cells are not grouped.
        by: origin of the groups, for messages.
        short: short form of `by`, used in the name of a split.
        notes: notes for the user.
    """

    groups: CellGroups | None
    by: str
    short: str
    notes: tuple[str, ...] = ()


def read_grouping(manifest: Manifest, by: str | None) -> Grouping:
    """Read the groups of a data set's cells.

    Args:
        manifest: manifest of the data set.
        by: `group` or `collection` for that column of the manifest; a pattern with `{group}`, matched against the keys;
            `FILE:COLUMN` for a column of a CSV or Parquet file that also has a column `cell_id` or `key`; or `none`.
            None: the groups of the manifest, if it has any.

    Raises:
        ArgumentError: `by` has another form, or assigns no cell to a group.
        DataError: the file is damaged.
    """
    if by is None:
        by = "none" if manifest.groups is None else "group"
        if by == "none":
            why = (
                "No cell has a group: cells are split one by one, and cells of one donor or run may be in two subsets."
            )
            return Grouping(None, "none", "cell", (f"{why} Name the groups with --group-by.",))
    if by == "none":
        return Grouping(None, "none", "cell", _torn_groups(manifest, None))
    if by in ("group", "collection"):
        groups = manifest.groups if by == "group" else CellGroups.of(manifest.table.column(by))
    elif "{" in by:
        groups = _match_keys(manifest, by)
    else:
        groups = _read_column(manifest, by)
    if groups is None or not groups.names:
        raise invalid("--group-by", "a column or pattern that gives some cell a group", by, _HINT)
    short = by if by in GROUPING_WORDS else "pattern" if "{" in by else by.rpartition(":")[2]
    notes = _torn_groups(manifest, groups) if by != "group" else ()
    num_loose = int((groups.codes < 0).sum())
    if num_loose:
        notes += (f"Cells without a group by {by} are split one by one: {num_loose:,}.",)
    return Grouping(groups, by, short, notes)


def _torn_groups(manifest: Manifest, asked: CellGroups | None) -> tuple[str, ...]:
    """Return a note if another grouping may put cells of one group of the manifest into different subsets."""
    if manifest.groups is None:
        return ()
    if asked is None:
        return (f"As requested, the groups of the manifest ({len(manifest.groups.names):,}) are not kept whole.",)
    pairs = np.unique(manifest.groups.codes.astype(np.int64) * (len(asked.names) + 1) + asked.codes)
    groups = (pairs + 1) // (len(asked.names) + 1)  # of each different pair; -1 is no group
    if not (np.bincount(groups[groups >= 0]) > 1).any():
        return ()
    return ("Some groups of the manifest have cells in several of these groups, and may be in two subsets.",)


def _match_keys(manifest: Manifest, text: str) -> CellGroups | None:
    try:
        pattern = Pattern(text)
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("--pattern", "--group-by")) from None
    if "group" not in pattern.fields:
        raise invalid("--group-by", "a pattern that contains {group}", text, _HINT)
    parts = []
    for batch in manifest.table.select(["key"]).to_batches(PART_ROWS):
        names = []
        for key in batch.column(0).to_pylist():
            fields = pattern.match(key)
            if fields is None:
                raise invalid("--group-by", "a pattern that matches every key", text, f"It does not match {key!r}")
            names.append(fields["group"])
        parts.append(pa.array(names, pa.string()).dictionary_encode())
    return CellGroups.of(pa.chunked_array(parts, pa.dictionary(pa.int32(), pa.string())))


def _read_column(manifest: Manifest, by: str) -> CellGroups | None:
    file, _, column = by.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise invalid("--group-by", f"one of {', '.join(GROUPING_WORDS)}, a pattern, or FILE:COLUMN", by, _HINT)
    table = read_text_columns(path, ("cell_id", *PATH_COLUMNS, column), "Give a CSV or Parquet file")
    known = [name for name in table.column_names if name != column]
    if column not in table.column_names or not known:
        got = (table.schema.metadata or {}).get(b"names", b"").decode()[:300]
        rule = f"a file with the columns cell_id or key, and {column}"
        raise invalid("--group-by", rule, f"{path} with {got}", "Name an existing column")
    rows = table.column(known[0])
    told, cells = _told_cells(rows, len(manifest), path) if known[0] == "cell_id" else _told_keys(rows, manifest, path)
    groups = CellGroups.of(table.column(column))
    if groups is None:
        return None
    codes = np.full(len(manifest), -1, groups.codes.dtype)
    codes[cells] = groups.codes[told]
    return CellGroups(codes, groups.names).subset(slice(None))


def _told_cells(values: pa.ChunkedArray, num_cells: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a table whose cell_ids are cells of the data set, and these cell_ids, (m,) int64 each."""
    right = pc.match_substring_regex(values, "^[0-9]{1,18}$").fill_null(False)
    if not pc.all(right, min_count=0).as_py():
        wrong = values[pc.index(right, False).as_py()].as_py()
        raise DataError(f"{path}: cell_id must be a whole number, got {wrong!r}. Correct it.")
    cells = values.cast(pa.int64()).to_numpy()
    different, counts = np.unique(cells, return_counts=True)
    if (counts > 1).any():
        raise _named_twice(path, str(different[np.argmax(counts > 1)]))
    told = np.flatnonzero(cells < num_cells)
    return told, cells[told]


def _told_keys(values: pa.ChunkedArray, manifest: Manifest, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a table whose keys are cells of the data set, and their cell_ids, (m,) int64 each."""
    row_of: dict[str, int] = {}
    for row, value in enumerate(values.to_pylist()):
        key = (value or "").replace("\\", "/").removeprefix("./")
        if row_of.setdefault(key, row) != row:
            raise _named_twice(path, key)
    told, cells, begin = [], [], 0
    for batch in manifest.table.select(["key"]).to_batches(PART_ROWS):
        for place, key in enumerate(batch.column(0).to_pylist(), begin):
            name = one_name(key)
            if name in row_of:
                told.append(row_of[name])
                cells.append(place)
        begin += len(batch)
    return np.array(told, np.int64), np.array(cells, np.int64)


def _named_twice(path: Path, name: str) -> DataError:
    return DataError(f"{path} must name every cell once, got {name!r} twice. Remove the repeated rows.")
