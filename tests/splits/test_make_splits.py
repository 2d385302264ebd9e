"""All splits that options ask for."""

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.splits.by_group import k_folds, leave_one_group_out, split_by_group
from fastcell.splits.make_splits import SplitOptions, make_splits

LABELS = np.arange(90) % 3
GROUPS = [f"donor-{number // 10}" for number in range(90)]


def test_the_default_split_is_that_of_the_shares_and_the_seed():
    shares = (0.5, 0.2, 0.3)
    splits = make_splits(LABELS, GROUPS, SplitOptions(shares, seed=4))
    assert list(splits) == ["default"]
    np.testing.assert_array_equal(splits["default"], split_by_group(LABELS, GROUPS, shares, 4))


def test_folds_stand_beside_the_default_split():
    splits = make_splits(LABELS, None, SplitOptions(seed=1, folds=3))
    assert list(splits) == ["default", "fold-0", "fold-1", "fold-2"]
    for name, expected in zip(list(splits)[1:], k_folds(LABELS, None, 3, 1), strict=True):
        np.testing.assert_array_equal(splits[name], expected)
    by_group = make_splits(LABELS, GROUPS, SplitOptions(seed=1, folds="groups"))
    assert list(by_group) == ["default", *(f"fold-{number}" for number in range(9))]
    for name, expected in zip(list(by_group)[1:], leave_one_group_out(LABELS, GROUPS, 1), strict=True):
        np.testing.assert_array_equal(by_group[name], expected)


def test_no_split_puts_no_cell_into_a_subset():
    splits = make_splits(LABELS, GROUPS, SplitOptions(shares=None))
    assert {name: set(split.tolist()) for name, split in splits.items()} == {"default": {-1}}
    with pytest.raises(ArgumentError, match="--folds must be absent with --split none, got 3"):
        make_splits(LABELS, GROUPS, SplitOptions(shares=None, folds=3))
