"""Splits in which no two copies of a cell, and no two cells of a group, are on different sides."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastcell.data._bound import Bond, bind
from fastcell.data.duplicates import Duplicates, exact_sets
from fastcell.data.manifest import DatasetInfo, Manifest
from fastcell.data.records import ShardResult
from fastcell.data.shards import number_cells
from fastcell.data.splits import SplitOptions, make_splits
from fastcell.errors import ArgumentError

Ids = npt.NDArray[np.int64]
Splits = dict[str, np.ndarray]

_MOST_NAMES = 5


class Copies(NamedTuple):
    """Which of N cells are copies of each other, in any order of the cells.

    Attributes:
        sets: (N,) int64, number of the set of each cell, -1 where it stands alone.
        blank: (N,) bool, cells in a set that show one grey level alone. Such frames say nothing of where they are from,
            so they tie no groups; where they would be on two sides, they get none.
    """

    sets: Ids
    blank: npt.NDArray[np.bool_]


def copies_of(found: Duplicates, exact: Duplicates, num_cells: int, apart: npt.ArrayLike = ()) -> Copies:
    """The sets by cell_id.

    Args:
        found: what a search has found, exact sets joined with near copies.
        exact: the exact sets alone.
        num_cells: of the data set.
        apart: numbers of sets of `found` whose near copies are not to be kept together; their exact ones are.
    """
    sets, alone = found.of_cells(num_cells), exact.of_cells(num_cells)
    loose = np.isin(sets, np.asarray(apart, np.int64)) & (sets >= 0)
    sets[loose] = np.where(alone[loose] >= 0, alone[loose] + len(found), -1)
    blank = np.zeros(num_cells, bool)
    blank[exact.cell_ids[exact.blank]] = True
    return Copies(sets, blank)


Remake = Callable[[Copies], tuple[Splits, list[str]]]


def keep_exact_copies_together(
    base: Path,
    results: Sequence[ShardResult],
    info: DatasetInfo,
    keys: Sequence[str],
    splits: Splits,
    remake: Remake,
    given: Sequence[str] = (),
) -> tuple[Splits, list[str]]:
    """The splits of a data set in the making, with exact copies on one side, and what the user should know.

    Where there are no exact copies, the splits come back as they are; else only cells of the copies move, and as many
    others as the shares ask for. In the block layout a moved cell stays in its block: every reader goes by cell_id.

    Args:
        base: folder that the names of the shards are relative to.
        results: of the shards.
        info: of the data set; its window is used.
        keys: (N,) of the cells, in the order of the splits.
        splits: as they are so far.
        remake: makes them anew for the copies, in the order of `keys`; see `make_leakproof_splits`.
        given: names of splits that the source brings, which stay as they are.
    """
    if not any((sides != "").any() for name, sides in splits.items() if name not in given):
        return splits, []
    table, _ = number_cells(results)
    found = exact_sets(Manifest(base, info, _with_whole_paths(table, base)))
    if not len(found):
        return splits, []
    place = {key: number for number, key in enumerate(keys)}
    cells = np.array([place[key] for key in table.column("key").take(found.cell_ids).to_pylist()], np.int64)
    copies = Copies(np.full(len(keys), -1, np.int64), np.zeros(len(keys), bool))
    copies.sets[cells], copies.blank[cells] = found.sets, found.blank
    remade, notes = remake(copies)
    notes.insert(0, f"{len(cells):,} cells are exact copies of each other in {len(found):,} sets, turned or mirrored.")
    for name in given:
        notes += note_spanning(name, splits[name], copies)
    return {**splits, **remade}, notes


def make_leakproof_splits(
    labels: np.ndarray,
    groups: Sequence[str | None] | np.ndarray | None,
    options: SplitOptions,
    copies: Copies,
    name_of: Callable[[int], str],
    strict: bool = False,
) -> tuple[Splits, list[str]]:
    """`make_splits` with copies kept together, and what the user should know.

    Groups that share copies go to one side together. Where too few groups are left for the split then, the copies
    that tie them are on no side instead (`strict`: that is refused).

    Args:
        labels, groups, options: as of `make_splits`.
        copies: of the same cells, in the same order.
        name_of: key of a cell by its place.
        strict: see above.

    Raises:
        ArgumentError: as `make_splits`.
    """
    tying = np.where(copies.blank, -1, copies.sets)
    bound = bind(groups, tying)
    notes = [_describe_bond(bond, copies.sets, groups, name_of) for bond in bound.bonds]
    try:
        splits = make_splits(labels, bound.names if groups is not None else None, options, bound.units)
    except ArgumentError as error:
        if not bound.bonds:
            raise
        if strict:
            raise ArgumentError(f"{error} {' '.join(notes)}") from None
        splits, num = _make_without_ties(labels, groups, options, tying)
        notes.append(
            f"Too few groups are left where these stay together: their {num:,} common copies are on no side instead."
        )
    num_blank = 0
    for name, sides in splits.items():
        torn = _spanning(copies.sets, sides) & copies.blank
        splits[name] = np.where(torn, "", sides)
        num_blank = max(num_blank, int(torn.sum()))
    if num_blank:
        notes.append(f"{num_blank:,} frames of one grey level alone are the same image in several places: on no side.")
    return splits, notes


def _with_whole_paths(table: pa.Table, base: Path) -> pa.Table:
    """The rows with whole paths of shards: `base` may not be there yet, so that `..` behind it leads nowhere."""
    names = table.column("shard").combine_chunks().dictionary_encode()
    paths = [os.path.normpath(base / name) for name in names.dictionary.to_pylist()]
    whole = pa.DictionaryArray.from_arrays(names.indices, pa.array(paths, pa.string())).cast(pa.string())
    return table.set_column(table.schema.get_field_index("shard"), "shard", whole)


def note_spanning(name: str, sides: np.ndarray, copies: Copies) -> list[str]:
    """A sentence where copies are on two sides of a split that was given."""
    torn = _spanning(copies.sets, sides)
    num = len(np.unique(copies.sets[torn]))
    if not num:
        return []
    what = f"{num:,} cell{'s' if num > 1 else ''} with exact copies on two sides"
    return [f"The split {name!r}, which the source brings, has {what}; it is kept as it is."]


def _make_without_ties(
    labels: np.ndarray, groups: Sequence[str | None] | np.ndarray | None, options: SplitOptions, tying: Ids
) -> tuple[Splits, int]:
    """Splits by group alone; sets with cells of two groups, or with and without, on no side."""
    names = np.array([name or "" for name in groups or ()], dtype=object)
    _, group = np.unique(names.astype(str), return_inverse=True)
    num_sets = int(tying.max(initial=-1)) + 1
    pairs = np.unique(np.stack([tying, group.reshape(-1)])[:, tying >= 0], axis=1)
    ties = np.bincount(pairs[0], minlength=num_sets) > 1
    out = np.zeros(len(tying), bool)
    out[tying >= 0] = ties[tying[tying >= 0]]
    splits = make_splits(labels, names, options, np.where((names == "") & ~out, tying, -1))
    return {name: np.where(out, "", sides) for name, sides in splits.items()}, int(out.sum())


def _spanning(sets: Ids, sides: np.ndarray) -> npt.NDArray[np.bool_]:
    """(N,) bool: cells of sets that are on two sides or more."""
    inside = (sets >= 0) & (sides != "")
    _, side = np.unique(sides, return_inverse=True)
    pairs = np.unique(np.stack([sets, side.reshape(-1)])[:, inside], axis=1)
    torn = np.bincount(pairs[0], minlength=int(sets.max(initial=-1)) + 2) > 1
    return inside & torn[sets]


def _describe_bond(
    bond: Bond, sets: Ids, groups: Sequence[str | None] | np.ndarray | None, name_of: Callable[[int], str]
) -> str:
    cells = np.flatnonzero(sets == bond.example)
    first = {str(groups[cell]): cell for cell in cells[::-1].tolist() if groups is not None and groups[cell]}
    examples = " and ".join(name_of(cell) for cell in list(first.values())[:2])
    names = ", ".join(bond.groups[:_MOST_NAMES]) + (", ..." if len(bond.groups) > _MOST_NAMES else "")
    mistake = "most likely by a mistake in copying"
    return f"The groups {names} share copies of the same cell (e.g. {examples}), {mistake}: they are kept on one side."
