"""Splits: assign cells to training, validation and test.

A split is a `(N,)` int8 array, index into `fastcell.splits.by_group.SUBSETS` of the subset of each cell, -1 for none.
Cells of one group (a donor, a run, a source file) are never in two subsets, because copies and siblings of one cell in
both make a test score meaningless. The default shares, 65/15/20 %, are those of Meng et al. 2019 (doi
10.1109/JBHI.2018.2878878), who split at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.errors import invalid
from fastcell.splits.by_group import PAPER_SHARES, k_folds, leave_one_group_out, split_by_group


@dataclass(frozen=True)
class SplitOptions:
    """Options for `make_splits`.

    Attributes:
        shares: shares of train, valid and test, summing to 1; None: no split, no cell is in a subset.
        seed: seed of the random generator, >= 0.
        folds: None; a number of folds >= 2; or `"groups"` (each group is the test subset once).
    """

    shares: tuple[float, float, float] | None = PAPER_SHARES
    seed: int = 0
    folds: int | Literal["groups"] | None = None


def make_splits(
    labels: np.ndarray,
    groups: CellGroups | Sequence[str | None] | np.ndarray | None,
    options: SplitOptions,
    units: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Make the splits that the options describe.

    Args:
        labels: as for `split_by_group`.
        groups: as for `split_by_group`.
        options: shares, seed and folds.
        units: as for `split_by_group`.

    Returns:
        Splits by name: `default`, and `fold-0`, `fold-1`, ... if folds are requested. If shares is None, `default` has
        no subset for any cell.

    Raises:
        ArgumentError: folds are requested without shares, or as for `split_by_group`, `k_folds` and
            `leave_one_group_out`.
    """
    if options.shares is None:
        if options.folds is not None:
            raise invalid("--folds", "absent with --split none", options.folds, "Leave one of the two out")
        return {"default": np.full(len(labels), -1, np.int8)}
    splits = {"default": split_by_group(labels, groups, options.shares, options.seed, units)}
    if options.folds == "groups":
        folds = leave_one_group_out(labels, groups, options.seed, options.shares)
    elif options.folds is not None:
        folds = k_folds(labels, groups, int(options.folds), options.seed, options.shares, units)
    else:
        folds = []
    return splits | {f"fold-{i}": fold for i, fold in enumerate(folds)}
