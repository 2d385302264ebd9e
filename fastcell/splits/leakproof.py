"""Make splits in which copies of a cell, and cells of one group, are never in different subsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.rows.split_table import subset_codes
from fastcell.errors import ArgumentError
from fastcell.splits.copies.exact import Duplicates
from fastcell.splits.linked_groups import Ids, LinkedGroups, link_groups
from fastcell.splits.make_splits import SplitOptions, make_splits

Splits = dict[str, np.ndarray]

_MOST_NAMES = 5


class Copies(NamedTuple):
    """Copies among N cells, in any order of the cells.

    Attributes:
        sets: (N,) int64, number of the set of each cell, -1 for a cell without copies.
        blank: (N,) bool, True for cells in a set that show only one grey level. Such frames carry no information about
            their origin. They therefore do not link groups, and they are in no subset if their set would be in two
            subsets.
    """

    sets: Ids
    blank: npt.NDArray[np.bool_]


def copies_of(found: Duplicates, exact: Duplicates, num_cells: int, apart: npt.ArrayLike = ()) -> Copies:
    """Return the sets of copies by cell_id.

    Args:
        found: result of a search: exact sets joined with near copies.
        exact: the exact sets only.
        num_cells: number of cells of the data set.
        apart: numbers of the sets of `found` whose near copies need not stay together. Their exact copies still do.
    """
    sets, alone = found.of_cells(num_cells), exact.of_cells(num_cells)
    loose = np.isin(sets, np.asarray(apart, np.int64)) & (sets >= 0)
    sets[loose] = np.where(alone[loose] >= 0, alone[loose] + len(found), -1)
    blank = np.zeros(num_cells, bool)
    blank[exact.cell_ids[exact.blank]] = True
    return Copies(sets, blank)


def make_leakproof_splits(
    labels: np.ndarray,
    groups: CellGroups | Sequence[str | None] | np.ndarray | None,
    options: SplitOptions,
    copies: Copies,
    name_of: Callable[[int], str],
    strict: bool = False,
) -> tuple[Splits, list[str]]:
    """Make splits like `make_splits`, but keep copies together.

    Groups that share copies are assigned to one subset together. If too few groups are left for the split, the groups
    are not linked, and the copies that they share are in no subset (with `strict`, an error is raised instead).

    Args:
        labels: as for `make_splits`.
        groups: as for `make_splits`.
        options: as for `make_splits`.
        copies: copies among the same cells, in the same order.
        name_of: returns the key of the cell at an index.
        strict: raise an error if linking leaves too few groups.

    Returns:
        The splits by name, and notes for the user, one sentence each.

    Raises:
        ArgumentError: as for `make_splits`.
    """
    tying = np.where(copies.blank, -1, copies.sets)
    linked = link_groups(groups, tying)
    notes = [_describe_link(link, copies.sets, groups, name_of) for link in linked.links]
    try:
        splits = make_splits(labels, linked.groups, options, linked.units)
    except ArgumentError as error:
        if not linked.links:
            raise
        if strict:
            raise ArgumentError(f"{error} {' '.join(notes)}") from None
        splits, num = _make_without_ties(labels, groups, options, tying)
        notes.append(
            f"They are not linked, as too few groups would remain for the split: {num:,} copies are in no subset."
        )
    num_blank = 0
    for name, subsets in splits.items():
        torn = spanning_cells(copies.sets, subsets) & copies.blank
        splits[name] = np.where(torn, np.int8(-1), subsets)
        num_blank = max(num_blank, int(torn.sum()))
    if num_blank:
        notes.append(f"Cells of a single grey level with copies in several subsets are in no subset: {num_blank:,}.")
    return splits, notes


def _make_without_ties(
    labels: np.ndarray, groups: CellGroups | Sequence[str | None] | np.ndarray | None, options: SplitOptions, tying: Ids
) -> tuple[Splits, int]:
    """Make splits by group alone. Sets with cells of two groups, or with and without a group, are in no subset."""
    known = CellGroups.of_names(groups, len(labels))
    num_sets = int(tying.max(initial=-1)) + 1
    pairs = np.unique(np.stack([tying, known.codes])[:, tying >= 0], axis=1)
    ties = np.bincount(pairs[0], minlength=num_sets) > 1
    out = np.zeros(len(tying), bool)
    out[tying >= 0] = ties[tying[tying >= 0]]
    splits = make_splits(labels, known, options, np.where((known.codes < 0) & ~out, tying, -1))
    return {name: np.where(out, np.int8(-1), subsets) for name, subsets in splits.items()}, int(out.sum())


def spanning_cells(sets: Ids, subsets: np.ndarray) -> npt.NDArray[np.bool_]:
    """Return True for the cells of sets that are in two or more subsets, (N,) bool.

    Args:
        sets: (N,) int64, number of the set of each cell, -1 for none.
        subsets: (N,) subset of each cell, see `fastcell.dataset.rows.split_table.subset_codes`.
    """
    codes = subset_codes(subsets)
    inside = (sets >= 0) & (codes >= 0)
    pairs = np.unique(np.stack([sets[inside], codes[inside]]), axis=1)
    torn = np.bincount(pairs[0], minlength=int(sets.max(initial=-1)) + 2) > 1
    return inside & torn[sets]


def _describe_link(
    link: LinkedGroups,
    sets: Ids,
    groups: CellGroups | Sequence[str | None] | np.ndarray | None,
    name_of: Callable[[int], str],
) -> str:
    cells = np.flatnonzero(sets == link.example)
    first = {str(groups[cell]): cell for cell in cells[::-1].tolist() if groups is not None and groups[cell]}
    examples = " and ".join(name_of(cell) for cell in list(first.values())[:2])
    names = ", ".join(link.groups[:_MOST_NAMES]) + (", ..." if len(link.groups) > _MOST_NAMES else "")
    mistake = "probably because files were copied by mistake"
    return f"The groups {names} share copies of the same cell (e.g. {examples}), {mistake}: they are in one subset."
