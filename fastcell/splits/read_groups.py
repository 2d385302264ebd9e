"""Read the groups requested by `--group-by`, whose cells must stay in one subset."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.dataset.manifest import Manifest
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
        names: (N,) str objects, empty for a cell without group; None if cells are not grouped.
        by: origin of the groups, for messages.
        short: short form of `by`, used in the name of a split.
        notes: notes for the user.
    """

    names: npt.NDArray[np.object_] | None
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
            why = "No cell has a group: cells are split singly, and cells of one donor or run may be in two subsets."
            return Grouping(None, "none", "cell", (f"{why} Name the groups with --group-by.",))
    if by == "none":
        return Grouping(None, "none", "cell", _torn_groups(manifest, None))
    if by in ("group", "collection"):
        names = manifest.table.column(by).fill_null("").to_numpy(zero_copy_only=False).astype(object)
    elif "{" in by:
        names = _match_keys(manifest, by)
    else:
        names = _read_column(manifest, by)
    if not (names != "").any():
        raise invalid("--group-by", "a column or pattern that gives some cell a group", by, _HINT)
    short = by if by in GROUPING_WORDS else "pattern" if "{" in by else by.rpartition(":")[2]
    notes = _torn_groups(manifest, names) if by != "group" else ()
    num_loose = int((names == "").sum())
    if num_loose:
        notes += (f"Cells without a group by {by} are split singly: {num_loose:,}.",)
    return Grouping(names, by, short, notes)


def _torn_groups(manifest: Manifest, names: np.ndarray | None) -> tuple[str, ...]:
    """Return a note if another grouping may put cells of one group of the manifest into different subsets."""
    if manifest.groups is None:
        return ()
    groups = manifest.groups
    if names is None:
        return (f"As requested, the groups of the manifest ({len(set(groups.tolist()) - {''}):,}) are not kept whole.",)
    pairs = {(group, name) for group, name in zip(groups.tolist(), names.tolist(), strict=True) if group}
    several = len(pairs) - len({group for group, _ in pairs})
    return (
        ("Some groups of the manifest have cells in several of these groups, and may be in two subsets.",)
        if several
        else ()
    )


def _match_keys(manifest: Manifest, text: str) -> npt.NDArray[np.object_]:
    try:
        pattern = Pattern(text)
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("--pattern", "--group-by")) from None
    if "group" not in pattern.fields:
        raise invalid("--group-by", "a pattern that contains {group}", text, _HINT)
    names = np.empty(len(manifest), dtype=object)
    for place, key in enumerate(manifest.table.column("key").to_pylist()):
        fields = pattern.match(key)
        if fields is None:
            raise invalid("--group-by", "a pattern that matches every key", text, f"It does not match {key!r}")
        names[place] = fields["group"]
    return names


def _read_column(manifest: Manifest, by: str) -> npt.NDArray[np.object_]:
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
    rows = table.column(known[0]).to_pylist()
    if known[0] == "cell_id":
        where = {str(number): number for number in range(len(manifest))}
        wrong = next((row for row in rows if not re.fullmatch("[0-9]{1,18}", row or "")), "0")
        if wrong != "0":
            raise DataError(f"{path}: cell_id must be a whole number, got {wrong!r}. Correct it.")
    else:
        where = {one_name(key): place for place, key in enumerate(manifest.table.column("key").to_pylist())}
        rows = [(row or "").replace("\\", "/").removeprefix("./") for row in rows]
    twice = next((row for row, num in Counter(rows).items() if num > 1), None)
    if twice is not None:
        raise DataError(f"{path} must name every cell once, got {twice!r} twice. Remove the repeated rows.")
    names = np.full(len(manifest), "", dtype=object)
    for row, value in zip(rows, table.column(column).to_pylist(), strict=True):
        if row in where:
            names[where[row]] = value or ""
    return names
