"""Splits: which cell trains, which validates, which tests.

A split is a `(N,)` array of side names (`"train"`, `"valid"`, `"test"`, `""` for none). Cells of one group (a donor, a
run, a source file) never sit on two sides: copies and siblings of one cell on both sides make a test score meaningless.
The default shares, 65/15/20 %, are those of Meng et al. 2019 (doi 10.1109/JBHI.2018.2878878), who split at random.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastcell.data._assign import assign_groups
from fastcell.data.natural import natural_sorted
from fastcell.errors import invalid

SIDES = ("train", "valid", "test")
PAPER_SHARES = (0.65, 0.15, 0.20)
MAX_GROUP_FOLDS = 200

_GROUP_WAY_OUT = (
    "Ask for fewer sides (--split 80/0/20 has no validation side, --split 0/0/100 only a test side, "
    "--split none no side at all), or pack without groups if cells of one group may sit on two sides"
)


@dataclass(frozen=True)
class SplitOptions:
    """What the arguments `--split`, `--split-seed` and `--folds` say.

    shares: train, valid and test share, summing to 1; None: no split, every cell has side `""`.
    seed: >= 0. folds: None, a number of folds >= 2, or `"groups"` (each group once as the test side).
    """

    shares: tuple[float, float, float] | None = PAPER_SHARES
    seed: int = 0
    folds: int | Literal["groups"] | None = None


@dataclass(frozen=True)
class SplitSummary:
    """Counts of a split. counts: (K, 3) int64, cells by class and side; shares: achieved train, valid, test share of
    the cells that have a side; notes: what the user should know, one sentence each."""

    counts: np.ndarray
    shares: tuple[float, float, float]
    notes: tuple[str, ...]


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
    rng = np.random.default_rng([_check_seed(seed), 0x5711])
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
    rng = np.random.default_rng([_check_seed(seed), 0xF01D])
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


def make_splits(
    labels: np.ndarray,
    groups: Sequence[str | None] | np.ndarray | None,
    options: SplitOptions,
    units: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """All splits that the options ask for: `default`, and `fold-0` ... where folds are asked.

    labels, groups and units as in `split_by_group`. With shares None, `default` has side `""` for every cell.
    """
    if options.shares is None:
        if options.folds is not None:
            raise invalid("--folds", "absent with --split none", options.folds, "Leave one of the two out")
        return {"default": np.full(len(labels), "", dtype="<U5")}
    splits = {"default": split_by_group(labels, groups, options.shares, options.seed, units)}
    if options.folds == "groups":
        folds = leave_one_group_out(labels, groups, options.seed, options.shares)
    elif options.folds is not None:
        folds = k_folds(labels, groups, int(options.folds), options.seed, options.shares, units)
    else:
        folds = []
    return splits | {f"fold-{i}": fold for i, fold in enumerate(folds)}


def summarize_split(
    sides: np.ndarray, labels: np.ndarray, classes: Sequence[str], shares: Sequence[float] | None = None
) -> SplitSummary:
    """Counts, achieved shares and notes of a split.

    sides: (N,) str; labels: (N,) int, index in classes or -1; shares: what was asked (a side asked and empty is noted).
    """
    side_index = np.select([np.asarray(sides) == side for side in SIDES], range(3), -1)
    labels = np.asarray(labels, dtype=np.int64)
    counts = np.zeros((len(classes), 3), dtype=np.int64)
    known = (side_index >= 0) & (labels >= 0)
    np.add.at(counts, (labels[known], side_index[known]), 1)
    totals = np.bincount(side_index[side_index >= 0], minlength=3)
    achieved = totals / max(int(totals.sum()), 1)
    asked = totals > 0 if shares is None else np.asarray(shares) > 0
    notes = [f"No cell is on the {side} side." for j, side in enumerate(SIDES) if asked[j] and totals[j] == 0]
    for j, side in enumerate(SIDES):
        absent = [name for name, row in zip(classes, counts, strict=True) if row.sum() > 0 and row[j] == 0]
        if asked[j] and totals[j] > 0 and absent:
            names = ", ".join(absent)
            notes.append(f"The {side} side has no cell of {names}: all of them, or all of their groups, are elsewhere.")
    return SplitSummary(counts, (float(achieved[0]), float(achieved[1]), float(achieved[2])), tuple(notes))


def parse_shares(text: str) -> tuple[float, float, float] | None:
    """`"65/15/20"` (or `"0.65/0.15/0.2"`) -> shares summing to 1; `"none"` -> None. Raises ArgumentError otherwise."""
    if text.strip().lower() == "none":
        return None
    rule = "three shares train/valid/test that sum to 100 (or to 1), or none"
    try:
        numbers = [float(piece) for piece in text.split("/")]
    except ValueError:
        numbers = []
    total = sum(numbers)
    if len(numbers) != 3 or not (abs(total - 100) < 1e-6 or abs(total - 1) < 1e-6) or min(numbers) < 0:
        raise invalid("--split", rule, text, "Write for example --split 65/15/20")
    train, valid, test = (number / total for number in numbers)
    return train, valid, test


def add_split_arguments(parser: argparse.ArgumentParser, default: str = "65/15/20") -> None:
    """Add `--split`, `--split-seed` and `--folds` to a command's parser; read them with `split_options`."""
    group = parser.add_argument_group("split")
    group.add_argument(
        "--split", default=default, metavar="TRAIN/VALID/TEST", help="shares in %%, or none (default: %(default)s)"
    )
    group.add_argument("--split-seed", type=int, default=0, metavar="S", help="seed of the splits (default: 0)")
    group.add_argument(
        "--folds",
        metavar="K|groups",
        help="also write the splits fold-0 ... for K-fold cross-validation; groups: each group once as the test side",
    )


def split_options(arguments: argparse.Namespace) -> SplitOptions:
    """The options in a parsed command line. Raises ArgumentError for a value out of its rule."""
    folds: int | Literal["groups"] | None = None
    if arguments.folds == "groups":
        folds = "groups"
    elif arguments.folds is not None:
        if not arguments.folds.isdecimal() or int(arguments.folds) < 2:
            rule = "a number >= 2 or the word groups"
            raise invalid("--folds", rule, arguments.folds, "Write for example --folds 5")
        folds = int(arguments.folds)
    return SplitOptions(parse_shares(arguments.split), _check_seed(arguments.split_seed), folds)


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


def _check_seed(seed: int) -> int:
    if seed < 0:
        raise invalid("--split-seed", "a number >= 0", seed, "Choose another seed")
    return int(seed)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} ({shown}{', ...' if len(names) > 5 else ''})"
