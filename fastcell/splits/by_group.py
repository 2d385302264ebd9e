"""Make splits in which no group is in two subsets: by shares, by folds, or with one group left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.rows.count_codes import count_codes
from fastcell.errors import invalid
from fastcell.splits.assign_groups import assign_groups

SUBSETS = ("train", "valid", "test")
PAPER_SHARES = (0.65, 0.15, 0.20)
MAX_GROUP_FOLDS = 200
_GROUP_HINT = (
    "Ask for fewer subsets (--split 80/0/20: no validation subset, --split 0/0/100: a test subset only, "
    "--split none: no subset), or pack without groups if cells of one group may be in two subsets"
)


def split_by_group(
    labels: np.ndarray,
    groups: CellGroups | Sequence[str | None] | np.ndarray | None,
    shares: tuple[float, float, float] = PAPER_SHARES,
    seed: int = 0,
    units: np.ndarray | None = None,
) -> np.ndarray:
    """Assign N cells to subsets by class and by group.

    Each group is assigned as a whole. Groups are distributed so that the shares of all cells and, with less weight, the
    shares of each class come closest to the requested shares. Cells without group are assigned at random within each
    class, exact to one cell (to one unit). A class with at least as many cells without group as there are subsets is in
    every subset. The result depends only on the arguments.

    Args:
        labels: (N,) int, class of each cell, -1 = unknown (a stratum of its own).
        groups: groups of the cells, or (N,) names, None or empty for a cell without group; None if no cell has a group.
        shares: shares of train, valid and test, summing to 1. A subset with share 0 stays empty.
        seed: seed of the random generator, >= 0.
        units: (N,) int. Cells without group that have the same number >= 0 (copies of one cell) stay together.

    Returns:
        (N,) int8, index into `SUBSETS` of each cell.

    Raises:
        ArgumentError: every cell has a group and there are fewer groups than requested subsets, or another argument is
            invalid.
    """
    labels, known = _check_cells(labels, groups)
    shares = _check_shares(shares)
    rng = np.random.default_rng([check_split_seed(seed), 0x5711])
    subsets = np.empty(len(labels), np.int8)
    loose = known.codes < 0
    if not loose.all():
        asked = [subset for subset, share in zip(SUBSETS, shares, strict=True) if share > 0]
        unique, group = known.in_natural_order()
        if len(unique) < len(asked) and not loose.any():
            raise invalid(
                "groups", f"at least {len(asked)} for the subsets {', '.join(asked)}", _listed(unique), _GROUP_HINT
            )
        chosen = assign_groups(_count_groups(labels[~loose], group[~loose], len(unique)), np.asarray(shares), rng)
        subsets[~loose] = chosen.astype(np.int8)[group[~loose]]
    if loose.any():
        subsets[loose] = _split_stratified(labels[loose], shares, rng, None if units is None else units[loose])
    return subsets


def k_folds(
    labels: np.ndarray,
    groups: CellGroups | Sequence[str | None] | np.ndarray | None,
    k: int,
    seed: int = 0,
    shares: tuple[float, float, float] = PAPER_SHARES,
    units: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Make k splits in which every cell is tested exactly once, stratified by class, with whole groups.

    Fold i is the test subset of split i. The other cells are divided into training and validation subset by group; the
    validation share is valid / (train + valid).

    Args:
        labels: as for `split_by_group`.
        groups: as for `split_by_group`.
        k: number of folds, from 2 to the number of groups plus the number of cells (units) without group.
        seed: as for `split_by_group`.
        shares: as for `split_by_group`; the train share must be above 0.
        units: as for `split_by_group`.

    Returns:
        k arrays (N,) int8, as from `split_by_group`.

    Raises:
        ArgumentError: `k` is out of range, or another argument is invalid.
    """
    labels, known = _check_cells(labels, groups)
    loose = known.codes < 0
    unique, group = known.in_natural_order()
    most = len(unique) + _num_units(loose, units)
    if k < 2 or k > most:
        what = "groups" if unique else "cells"
        raise invalid("--folds", f"2 to {most} (the number of {what})", k, "Choose another number of folds")
    rng = np.random.default_rng([check_split_seed(seed), 0xF01D])
    fold = np.empty(len(labels), np.min_scalar_type(k))
    if unique:
        counts = _count_groups(labels[~loose], group[~loose], len(unique))
        fold[~loose] = assign_groups(counts, np.full(k, 1 / k), rng)[group[~loose]]
    fold[loose] = _deal_folds(labels[loose], k, rng, None if units is None else units[loose])
    return [_fold_split(labels, known, fold == i, seed + i, shares, units) for i in range(k)]


def leave_one_group_out(
    labels: np.ndarray,
    groups: CellGroups | Sequence[str | None] | np.ndarray | None,
    seed: int = 0,
    shares: tuple[float, float, float] = PAPER_SHARES,
    units: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Make one split for each group, in natural order of the group names, with that group as the test subset.

    The validation subset is chosen as in `k_folds`.

    Args:
        labels: as for `split_by_group`.
        groups: as for `split_by_group`.
        seed: as for `split_by_group`.
        shares: as for `k_folds`.
        units: not used, because every cell has a group.

    Returns:
        One array (N,) int8 for each group, as from `split_by_group`.

    Raises:
        ArgumentError: a cell has no group, or the number of groups is less than 2 or more than 200.
    """
    labels, known = _check_cells(labels, groups)
    unique, group = known.in_natural_order()
    if (group < 0).any():
        raise invalid(
            "--folds",
            "a number where cells have no group",
            "groups",
            "Name the groups, e.g. --pattern '{group}/{class}/{name}', or use --folds 5",
        )
    if not 2 <= len(unique) <= MAX_GROUP_FOLDS:
        raise invalid(
            "--folds",
            f"a number unless there are 2 to {MAX_GROUP_FOLDS} groups",
            f"groups ({len(unique)} of them)",
            "Use --folds 5, which keeps groups whole too",
        )
    return [_fold_split(labels, known, group == i, seed + i, shares) for i in range(len(unique))]


def _fold_split(
    labels: np.ndarray,
    groups: CellGroups,
    is_test: np.ndarray,
    seed: int,
    shares: tuple[float, float, float],
    units: np.ndarray | None = None,
) -> np.ndarray:
    subsets = np.full(len(labels), SUBSETS.index("test"), np.int8)
    train, valid, _ = _check_shares(shares)
    if train <= 0:
        raise invalid(
            "--split", "shares with train above 0 if there are folds", shares, "Write for example --split 65/15/20"
        )
    valid /= train + valid
    others = None if units is None else units[~is_test]
    subsets[~is_test] = split_by_group(labels[~is_test], groups.subset(~is_test), (1 - valid, valid, 0.0), seed, others)
    return subsets


def _split_stratified(
    labels: np.ndarray, shares: tuple[float, ...], rng: np.random.Generator, units: np.ndarray | None
) -> np.ndarray:
    """Shuffle the cells of each class and cut them into subsets where the cumulative counts reach the shares."""
    owed = np.zeros(len(shares))  # cells that rounding has taken from each subset in previous classes
    one, sizes = _weigh_units(len(labels), units)
    placed = np.zeros(len(sizes), dtype=bool)
    subset_of = np.empty(len(sizes), np.int8)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        leaders = _first_of_each(one[rows])
        leaders = leaders[~placed[leaders]]
        placed[leaders] = True
        ends = np.cumsum(sizes[leaders])
        total = int(ends[-1]) if len(ends) else 0
        counts = _exact_counts(total, np.asarray(shares), owed)
        owed += total * np.asarray(shares) - counts
        middles = ends - sizes[leaders] / 2
        chosen = np.searchsorted(np.cumsum(counts), middles, side="right")
        subset_of[leaders] = np.minimum(chosen, len(SUBSETS) - 1)
    return subset_of[one]  # type: ignore[no-any-return]


def _weigh_units(num: int, units: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit of each of `num` cells, and the number of cells in each unit. A single cell is its own unit."""
    if units is None or not (units >= 0).any():
        return np.arange(num), np.ones(num, dtype=np.int64)
    code = np.where(units >= 0, units, int(units.max()) + 1 + np.arange(num))
    _, one, sizes = np.unique(code, return_inverse=True, return_counts=True)
    return one.reshape(-1), sizes


def _first_of_each(values: np.ndarray) -> np.ndarray:
    """Return the unique values, in the order in which they first appear."""
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)]


def _num_units(loose: np.ndarray, units: np.ndarray | None) -> int:
    return len(_weigh_units(int(loose.sum()), None if units is None else units[loose])[1])


def _exact_counts(num: int, shares: np.ndarray, owed: np.ndarray) -> np.ndarray:
    """Distribute num cells by largest remainder, with at least one in every requested subset if num allows it."""
    asked = shares > 0
    counts = np.floor(num * shares + 1e-9).astype(np.int64)
    if num >= asked.sum():
        counts[asked] = np.maximum(counts[asked], 1)
    remainder = num * shares - counts + owed
    while (missing := num - counts.sum()) != 0:
        step = 1 if missing > 0 else -1
        subset = np.argmax(np.where(asked & (counts + step >= 1), step * remainder, -np.inf))
        counts[subset] += step
        remainder[subset] -= step
    return counts


def _deal_folds(labels: np.ndarray, k: int, rng: np.random.Generator, units: np.ndarray | None) -> np.ndarray:
    """Deal the cells to folds, class by class.

    Each class starts at the fold where the previous class ended, so that the sizes of folds differ by at most one cell.
    With units, each unit is assigned as a whole to the fold with the fewest cells of its class; ties go to the smallest
    fold.
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    one, sizes = _weigh_units(len(labels), units)
    if len(sizes) == len(labels):
        fold[order] = np.arange(len(labels)) % k
        return fold
    leaders = _first_of_each(one[order])
    class_of = np.empty(len(sizes), dtype=np.int64)
    class_of[one[order[::-1]]] = labels[order[::-1]]
    fold_of, all_cells, of_class, current = np.empty(len(sizes), dtype=np.int64), [0] * k, [0] * k, None
    for leader, size, label in zip(leaders.tolist(), sizes[leaders].tolist(), class_of[leaders].tolist(), strict=True):
        if label != current:
            of_class, current = [0] * k, label
        chosen = min(range(k), key=lambda i: (of_class[i], all_cells[i]))
        fold_of[leader] = chosen
        of_class[chosen] += size
        all_cells[chosen] += size
    return fold_of[one]


def _count_groups(labels: np.ndarray, group: np.ndarray, num_groups: int) -> np.ndarray:
    """Return the number of cells by group and class, (G, K), given the number of each cell's group, (N,)."""
    kinds, kind = np.unique(labels, return_inverse=True)
    return count_codes((group, num_groups), (kind.reshape(-1), len(kinds)))[:-1, :-1]


def _check_cells(
    labels: np.ndarray, groups: CellGroups | Sequence[str | None] | np.ndarray | None
) -> tuple[np.ndarray, CellGroups]:
    labels = np.asarray(labels, dtype=np.int64)
    known = CellGroups.of_names(groups, len(labels))
    if known.codes.shape != labels.shape:
        rule = f"of the labels' shape {labels.shape}"
        raise invalid("groups", rule, known.codes.shape, "Give one group for each cell")
    return labels, known


def _check_shares(shares: Sequence[float]) -> tuple[float, float, float]:
    values = tuple(float(share) for share in shares)
    if len(values) != 3 or min(values) < 0 or abs(sum(values) - 1) > 1e-6:
        raise invalid("shares", "three numbers >= 0 that sum to 1", shares, "The paper's are (0.65, 0.15, 0.20)")
    return values[0], values[1], values[2]


def check_split_seed(seed: int) -> int:
    """Check the seed of a split.

    Returns:
        The seed.

    Raises:
        ArgumentError: the seed is negative.
    """
    if seed < 0:
        raise invalid("--split-seed", "a number >= 0", seed, "Choose another seed")
    return int(seed)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} ({shown}{', ...' if len(names) > 5 else ''})"
