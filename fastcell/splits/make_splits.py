"""Splits: which cell trains, which validates, which tests.

A split is a `(N,)` array of side names (`"train"`, `"valid"`, `"test"`, `""` for none). Cells of one group (a donor, a
run, a source file) never sit on two sides: copies and siblings of one cell on both sides make a test score meaningless.
The default shares, 65/15/20 %, are those of Meng et al. 2019 (doi 10.1109/JBHI.2018.2878878), who split at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastcell.errors import invalid
from fastcell.splits.by_group import PAPER_SHARES, k_folds, leave_one_group_out, split_by_group


@dataclass(frozen=True)
class SplitOptions:
    """Which splits to make.

    shares: train, valid and test share, summing to 1; None: no split, every cell has side `""`.
    seed: >= 0. folds: None, a number of folds >= 2, or `"groups"` (each group once as the test side).
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
