"""Splits in which no group is in two subsets: by shares, by folds, one group left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastcell.errors import invalid
from fastcell.splits.assign_groups import assign_groups
from fastcell.system.text import natural_sorted

SIDES = ("train", "valid", "test")


PAPER_SHARES = (0.65, 0.15, 0.20)


MAX_GROUP_FOLDS = 200


_GROUP_WAY_OUT = (
    "Ask for fewer sides (--split 80/0/20 has no validation side, --split 0/0/100 only a test side, "
    "--split none no side at all), or pack without groups if cells of one group may sit on two sides"
)


def split_by_group(
    labels: np.ndarray,
    groups: Sequence[str | None] | np.ndarray | None,
    shares: tuple[float, float, float] = PAPER_SHARES,
    seed: int = 0,
    units: np.ndarray | None = None,
) -> np.ndarray:
    """Sides of N cells by class and by group.

    labels: (N,) int, -1 = unknown (a stratum of its own). groups: (N,) names, None or empty for a cell without group;
    or None as a whole. shares: train, valid and test, summing to 1; a side with share 0 stays empty. units: (N,) int,
    cells without group that have the same number >= 0 (copies of one cell) stay together.
    Cells without group are drawn at random within each class, exact to one cell (to one unit), and a class with at
    least as many cells as there are sides is on every side. Groups go whole to the side that brings the cell shares,
    and with less weight the shares of each class, nearest to what was asked.
    Returns (N,) `<U5`. The result depends on the arguments only. Raises ArgumentError where there are fewer groups than
    sides asked.
    """
    labels, names = _check_cells(labels, groups)
    shares = _check_shares(shares)
    rng = np.random.default_rng([check_split_seed(seed), 0x5711])
    sides = np.full(len(labels), "", dtype="<U5")
    loose = names == ""
    if not loose.all():
        asked = [side for side, share in zip(SIDES, shares, strict=True) if share > 0]
        unique = natural_sorted(set(names[~loose].tolist()))
        if len(unique) < len(asked) and not loose.any():
            raise invalid(
                "groups", f"at least {len(asked)} for the sides {', '.join(asked)}", _listed(unique), _GROUP_WAY_OUT
            )
        counts, index = _count_groups(labels[~loose], names[~loose], unique)
        chosen = assign_groups(counts, np.asarray(shares), rng)
        sides[~loose] = np.asarray(SIDES)[chosen][index]
    if loose.any():
        sides[loose] = _split_stratified(labels[loose], shares, rng, None if units is None else units[loose])
    return sides


def k_folds(
    labels: np.ndarray,
    groups: Sequence[str | None] | np.ndarray | None,
    k: int,
    seed: int = 0,
    shares: tuple[float, float, float] = PAPER_SHARES,
    units: np.ndarray | None = None,
) -> list[np.ndarray]:
    """K splits in which every cell is tested exactly once, stratified by class, groups kept whole.

    Fold i is the test side of split i; valid / (train + valid) of the rest, group-wise, is its validation side.
    Arguments as in `split_by_group`; 2 <= k <= number of groups (of cells where there are no groups).
    Returns k arrays (N,) `<U5`. Raises ArgumentError for a k out of range.
    """
    labels, names = _check_cells(labels, groups)
    loose = names == ""
    unique = natural_sorted(set(names[~loose].tolist()))
    most = len(unique) + _num_units(loose, units)
    if k < 2 or k > most:
        what = "groups" if unique else "cells"
        raise invalid("--folds", f"2 to {most} (the number of {what})", k, "Choose another number of folds")
    rng = np.random.default_rng([check_split_seed(seed), 0xF01D])
    fold = np.full(len(labels), -1, dtype=np.int64)
    if unique:
        counts, index = _count_groups(labels[~loose], names[~loose], unique)
        fold[~loose] = assign_groups(counts, np.full(k, 1 / k), rng)[index]
    fold[loose] = _deal_folds(labels[loose], k, rng, None if units is None else units[loose])
    return [_fold_split(labels, names, fold == i, seed + i, shares, units) for i in range(k)]


def leave_one_group_out(
    labels: np.ndarray,
    groups: Sequence[str | None] | np.ndarray | None,
    seed: int = 0,
    shares: tuple[float, float, float] = PAPER_SHARES,
    units: np.ndarray | None = None,
) -> list[np.ndarray]:
    """One split for each group, in natural order of the group names: that group is the test side.

    Arguments and validation side as in `k_folds`. Raises ArgumentError where a cell has no group, or where there is one
    group only or more than 200 of them.
    """
    labels, names = _check_cells(labels, groups)
    unique = natural_sorted(set(names.tolist()))
    if "" in unique:
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
    return [_fold_split(labels, names, names == name, seed + i, shares) for i, name in enumerate(unique)]


def _fold_split(
    labels: np.ndarray,
    names: np.ndarray,
    is_test: np.ndarray,
    seed: int,
    shares: tuple[float, float, float],
    units: np.ndarray | None = None,
) -> np.ndarray:
    sides = np.full(len(labels), "test", dtype="<U5")
    train, valid, _ = _check_shares(shares)
    if train <= 0:
        raise invalid("--split", "with a train share above 0 for folds", shares, "Write for example --split 65/15/20")
    valid /= train + valid
    others = None if units is None else units[~is_test]
    sides[~is_test] = split_by_group(labels[~is_test], names[~is_test], (1 - valid, valid, 0.0), seed, others)
    return sides


def _split_stratified(
    labels: np.ndarray, shares: tuple[float, ...], rng: np.random.Generator, units: np.ndarray | None
) -> np.ndarray:
    """Cells in a random order by class; the sides are pieces of it, cut where the cells so far reach a share."""
    sides = np.full(len(labels), "", dtype="<U5")
    owed = np.zeros(len(shares))  # what rounding took from each side in the classes so far
    one, sizes = _weigh_units(len(labels), units)
    placed = np.zeros(len(sizes), dtype=bool)
    side_of = np.full(len(sizes), "", dtype="<U5")
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        heads = _first_of_each(one[rows])
        heads = heads[~placed[heads]]
        placed[heads] = True
        ends = np.cumsum(sizes[heads])
        total = int(ends[-1]) if len(ends) else 0
        counts = _exact_counts(total, np.asarray(shares), owed)
        owed += total * np.asarray(shares) - counts
        middles = ends - sizes[heads] / 2
        chosen = np.searchsorted(np.cumsum(counts), middles, side="right")
        side_of[heads] = np.asarray(SIDES)[np.minimum(chosen, len(SIDES) - 1)]
    sides[:] = side_of[one]
    return sides


def _weigh_units(num: int, units: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Number of the unit of each of `num` cells, a cell that stands alone being one, and cells in each unit."""
    if units is None or not (units >= 0).any():
        return np.arange(num), np.ones(num, dtype=np.int64)
    code = np.where(units >= 0, units, int(units.max()) + 1 + np.arange(num))
    _, one, sizes = np.unique(code, return_inverse=True, return_counts=True)
    return one.reshape(-1), sizes


def _first_of_each(values: np.ndarray) -> np.ndarray:
    """The different values, in the order in which they first appear."""
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)]


def _num_units(loose: np.ndarray, units: np.ndarray | None) -> int:
    return len(_weigh_units(int(loose.sum()), None if units is None else units[loose])[1])


def _exact_counts(num: int, shares: np.ndarray, owed: np.ndarray) -> np.ndarray:
    """num cells into sides by largest remainder, with at least one on every side asked where num allows it."""
    asked = shares > 0
    counts = np.floor(num * shares + 1e-9).astype(np.int64)
    if num >= asked.sum():
        counts[asked] = np.maximum(counts[asked], 1)
    remainder = num * shares - counts + owed
    while (missing := num - counts.sum()) != 0:
        step = 1 if missing > 0 else -1
        side = np.argmax(np.where(asked & (counts + step >= 1), step * remainder, -np.inf))
        counts[side] += step
        remainder[side] -= step
    return counts


def _deal_folds(labels: np.ndarray, k: int, rng: np.random.Generator, units: np.ndarray | None) -> np.ndarray:
    """Deal the cells class by class, each class going on where the last one ended: sizes differ by one at most.

    A unit goes whole to the fold with the fewest cells of its class, and among those to the smallest.
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    one, sizes = _weigh_units(len(labels), units)
    if len(sizes) == len(labels):
        fold[order] = np.arange(len(labels)) % k
        return fold
    heads = _first_of_each(one[order])
    class_of = np.empty(len(sizes), dtype=np.int64)
    class_of[one[order[::-1]]] = labels[order[::-1]]
    fold_of, all_cells, of_class, current = np.empty(len(sizes), dtype=np.int64), [0] * k, [0] * k, None
    for head, size, label in zip(heads.tolist(), sizes[heads].tolist(), class_of[heads].tolist(), strict=True):
        if label != current:
            of_class, current = [0] * k, label
        chosen = min(range(k), key=lambda i: (of_class[i], all_cells[i]))
        fold_of[head] = chosen
        of_class[chosen] += size
        all_cells[chosen] += size
    return fold_of[one]


def _count_groups(labels: np.ndarray, names: np.ndarray, unique: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cells by group and class (G, K) and each cell's group number (N,)."""
    number = {name: i for i, name in enumerate(unique)}
    index = np.fromiter((number[name] for name in names.tolist()), dtype=np.int64, count=len(names))
    kinds, kind = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(unique), len(kinds)), dtype=np.int64)
    np.add.at(counts, (index, kind.reshape(-1)), 1)
    return counts, index


def _check_cells(labels: np.ndarray, groups: Sequence[str | None] | np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(labels, dtype=np.int64)
    if groups is None:
        return labels, np.full(len(labels), "", dtype=object)
    names = np.array([name or "" for name in groups], dtype=object)
    if names.shape != labels.shape:
        raise invalid("groups", f"of the labels' shape {labels.shape}", names.shape, "Give one group for each cell")
    return labels, names


def _check_shares(shares: Sequence[float]) -> tuple[float, float, float]:
    values = tuple(float(share) for share in shares)
    if len(values) != 3 or min(values) < 0 or abs(sum(values) - 1) > 1e-6:
        raise invalid("shares", "three numbers >= 0 that sum to 1", shares, "The paper's are (0.65, 0.15, 0.20)")
    return values[0], values[1], values[2]


def check_split_seed(seed: int) -> int:
    """Return the seed of a split, a number >= 0. Raises ArgumentError where it is below."""
    if seed < 0:
        raise invalid("--split-seed", "a number >= 0", seed, "Choose another seed")
    return int(seed)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} ({shown}{', ...' if len(names) > 5 else ''})"
