"""Splits: which cell trains, which validates, which tests.

A split is a `(N,)` array of subset names (`"train"`, `"valid"`, `"test"`, `""` for none). Cells of one group (a donor,
a run, a source file) never sit in two subsets: copies and siblings of one cell in both make a test score meaningless.
The default shares, 65/15/20 %, are those of Meng et al. 2019 (doi 10.1109/JBHI.2018.2878878), who split at random.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastcell.errors import invalid
from fastcell.splits.by_group import PAPER_SHARES, check_split_seed, k_folds, leave_one_group_out, split_by_group


@dataclass(frozen=True)
class SplitOptions:
    """What the arguments `--split`, `--split-seed` and `--folds` say.

    shares: train, valid and test share, summing to 1; None: no split, every cell has subset `""`.
    seed: >= 0. folds: None, a number of folds >= 2, or `"groups"` (each group once as the test subset).
    """

    shares: tuple[float, float, float] | None = PAPER_SHARES
    seed: int = 0
    folds: int | Literal["groups"] | None = None


def make_splits(
    labels: np.ndarray,
    groups: Sequence[str | None] | np.ndarray | None,
    options: SplitOptions,
    units: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """All splits that the options ask for: `default`, and `fold-0` ... where folds are asked.

    labels, groups and units as in `split_by_group`. With shares None, `default` has subset `""` for every cell.
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
    return SplitOptions(parse_shares(arguments.split), check_split_seed(arguments.split_seed), folds)
