"""Splits in which no group is in two subsets: counts, folds, one group left out."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcell.dataset.rows.split_table import subset_names
from fastcell.errors import ArgumentError
from fastcell.splits import by_group
from fastcell.splits.by_group import MAX_GROUP_FOLDS, SUBSETS

SHARES = (0.65, 0.15, 0.20)


def split_by_group(*words, **options):
    codes = by_group.split_by_group(*words, **options)
    assert codes.dtype == np.int8
    return subset_names(codes)


def k_folds(*words, **options):
    return [subset_names(fold) for fold in by_group.k_folds(*words, **options)]


def leave_one_group_out(*words):
    return [subset_names(fold) for fold in by_group.leave_one_group_out(*words)]


def count(sides, labels, label):
    return [int(((sides == side) & (labels == label)).sum()) for side in SUBSETS]


def sides_of_groups(sides, groups):
    found = {}
    for side, group in zip(sides.tolist(), groups.tolist(), strict=True):
        found.setdefault(group, set()).add(side)
    return found


def test_stratified_counts_are_exact_in_every_class():
    labels = np.repeat([0, 1, 2], [1000, 200, 20])
    sides = split_by_group(labels, None, SHARES, seed=3)
    assert [count(sides, labels, label) for label in range(3)] == [[650, 150, 200], [130, 30, 40], [13, 3, 4]]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(0, 5))
@settings(max_examples=60)
def test_stratified_is_near_by_class_and_as_a_whole(sizes, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    sides = split_by_group(labels, None, SHARES, seed)
    assert set(sides.tolist()) <= set(SUBSETS)
    for label, size in enumerate(sizes):
        counts = count(sides, labels, label)
        assert sum(counts) == size
        assert size < 3 or min(counts) >= 1
        assert max(abs(num - size * share) for num, share in zip(counts, SHARES, strict=True)) < 2
    if min(sizes) >= 7:  # no class is so small that the one cell on each side decides
        total = [int((sides == side).sum()) for side in SUBSETS]
        assert max(abs(num - len(labels) * share) for num, share in zip(total, SHARES, strict=True)) <= 2


def test_same_seed_same_split_other_seed_another():
    labels = np.arange(300) % 3
    first, again, other = (split_by_group(labels, None, SHARES, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@given(st.integers(0, 2**32 - 1), st.integers(3, 60), st.integers(1, 4))
@settings(max_examples=60)
def test_no_group_is_on_two_sides_and_shares_are_near(seed, num_groups, num_classes):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 50, num_groups)
    groups = np.repeat([f"g{i}" for i in range(num_groups)], sizes)
    labels = rng.integers(-1, num_classes, len(groups))
    sides = split_by_group(labels, groups, SHARES, seed)
    assert all(len(found) == 1 for found in sides_of_groups(sides, groups).values())
    assert set(sides.tolist()) == set(SUBSETS)
    if num_groups >= 30:
        shares = np.array([(sides == side).mean() for side in SUBSETS])
        assert np.abs(shares - SHARES).max() < 0.03


def test_few_groups_take_the_nearest_cell_shares():
    sizes = {"a": 190, "b": 80, "c": 175, "d": 211, "e": 40}
    groups = np.repeat(list(sizes), list(sizes.values()))
    labels = np.zeros(len(groups), dtype=np.int64)
    sides = split_by_group(labels, groups)
    shares = np.array([(sides == side).mean() for side in SUBSETS])
    nearest = min(
        np.square(
            np.array([sum(n for n, s in zip(sizes.values(), choice, strict=True) if s == j) for j in range(3)])
            / sum(sizes.values())
            - SHARES
        ).sum()
        for choice in itertools.product(range(3), repeat=5)
        if set(choice) == {0, 1, 2}
    )
    assert np.square(shares - SHARES).sum() == pytest.approx(nearest)


def test_many_groups_come_as_near_as_few_cells_allow():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 5000, 20_000).astype(str)
    labels = rng.integers(0, 5, 20_000)
    sides = split_by_group(labels, groups)
    assert all(len(found) == 1 for found in sides_of_groups(sides, groups).values())
    shares = np.array([(sides == side).mean() for side in SUBSETS])
    assert np.abs(shares - SHARES).max() < 0.001


def test_classes_count_when_cell_shares_do_not_decide():
    # Eight groups of equal size, two of them of the rare class: it must reach both sides.
    groups = np.repeat([f"g{i}" for i in range(8)], 10)
    labels = np.repeat([1, 1, 0, 0, 0, 0, 0, 0], 10)
    for seed in range(5):
        sides = split_by_group(labels, groups, (0.5, 0.0, 0.5), seed)
        assert count(sides, labels, 1) == [10, 0, 10]


def test_cells_without_group_are_drawn_one_by_one():
    groups = np.array(["a"] * 30 + ["b"] * 30 + ["c"] * 40 + [None] * 100, dtype=object)
    labels = np.zeros(200, dtype=np.int64)
    sides = split_by_group(labels, groups)
    assert count(sides[100:], labels[100:], 0) == [65, 15, 20]
    assert all(len(set(sides[groups == name].tolist())) == 1 for name in "abc")


def test_too_few_groups_are_refused_with_a_way_out():
    labels, groups = np.zeros(20, dtype=np.int64), ["donor_1"] * 10 + ["donor_2"] * 10
    with pytest.raises(
        ArgumentError, match=r"groups must be at least 3 .* got .*donor_1, donor_2.*--split 80/0/20.*--split none"
    ):
        split_by_group(labels, groups)
    sides = split_by_group(labels, groups, (0.8, 0.0, 0.2))
    assert sorted(set(sides.tolist())) == ["test", "train"]
    assert set(split_by_group(labels, groups, (0.0, 0.0, 1.0)).tolist()) == {"test"}


@pytest.mark.parametrize("groups", [None, np.repeat([f"g{i}" for i in range(12)], 25)])
def test_folds_test_each_cell_once_and_keep_groups_whole(groups):
    labels = np.arange(300) % 3
    folds = k_folds(labels, groups, 5, seed=1)
    assert len(folds) == 5
    assert (sum((fold == "test").astype(int) for fold in folds) == 1).all()
    for fold in folds:
        assert set(fold.tolist()) == set(SUBSETS)
        if groups is None:
            assert count(fold, labels, 0)[2] == 20
            assert abs((fold == "valid").sum() - 240 * 15 / 80) <= 2
        else:
            assert all(len(found) == 1 for found in sides_of_groups(fold, groups).values())


def test_folds_hold_rare_classes_in_turn():
    labels = np.repeat([0, 1], [95, 5])
    assert [count(fold, labels, 1)[2] for fold in k_folds(labels, None, 5)] == [1] * 5


def test_each_group_is_tested_once_in_natural_order():
    groups = np.repeat(["run10", "run9", "run1", "run2"], 10)
    folds = leave_one_group_out(np.arange(40) % 2, groups)
    assert [set(groups[fold == "test"].tolist()) for fold in folds] == [{"run1"}, {"run2"}, {"run9"}, {"run10"}]
    assert all({"train", "valid"} < set(fold.tolist()) for fold in folds)


@pytest.mark.parametrize("k", [1, 5])
def test_folds_out_of_range_are_refused(k):
    with pytest.raises(ArgumentError, match=rf"--folds must be 2 to 4 \(the number of groups\), got {k}"):
        k_folds(np.zeros(40, dtype=np.int64), np.repeat(list("abcd"), 10), k)


def test_group_folds_need_groups():
    with pytest.raises(ArgumentError, match="where cells have no group"):
        leave_one_group_out(np.zeros(4, dtype=np.int64), ["a", "b", None, "c"])
    with pytest.raises(ArgumentError, match="1 of them"):
        leave_one_group_out(np.zeros(4, dtype=np.int64), ["a"] * 4)


def test_copies_without_a_group_stay_together():
    labels = np.arange(120) % 2
    units = np.full(120, -1)
    units[:30] = np.arange(30) // 3  # ten sets of three copies
    sides = split_by_group(labels, None, SHARES, seed=1, units=units)
    assert all(len(set(sides[units == unit].tolist())) == 1 for unit in range(10))
    shares = np.array([(sides == side).mean() for side in SUBSETS])
    assert np.abs(shares - SHARES).max() < 0.04
    folds = k_folds(labels, None, 4, seed=1, units=units)
    assert (sum((fold == "test").astype(int) for fold in folds) == 1).all()
    for fold in folds:
        assert all(len(set(fold[units == unit].tolist())) == 1 for unit in range(10))
        assert abs((fold == "test").sum() - 30) <= 3


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.7, 0.2, 0.2), (1.2, -0.2, 0.0)])
def test_shares_that_do_not_sum_to_one_are_refused(shares):
    with pytest.raises(ArgumentError, match=r"shares must be three numbers >= 0 that sum to 1"):
        split_by_group(np.zeros(9, int), None, shares)


def test_seeds_and_groups_that_cannot_be():
    with pytest.raises(ArgumentError, match="--split-seed must be a number >= 0, got -1"):
        split_by_group(np.zeros(9, int), None, SHARES, -1)
    with pytest.raises(ArgumentError, match=r"groups must be of the labels' shape \(9,\)"):
        split_by_group(np.zeros(9, int), ["a"] * 8)
    many = np.arange(MAX_GROUP_FOLDS + 1).astype(str)
    with pytest.raises(ArgumentError, match="201 of them"):
        leave_one_group_out(np.zeros(len(many), int), many)
