"""Splits: groups whole, shares near, strata exact, folds complete, refusals clear."""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcell.errors import ArgumentError
from fastcell.splits.by_group import SIDES, k_folds, leave_one_group_out, split_by_group
from fastcell.splits.describe import summarize_split
from fastcell.splits.make_splits import SplitOptions, add_split_arguments, make_splits, parse_shares, split_options

SHARES = (0.65, 0.15, 0.20)


def count(sides: np.ndarray, labels: np.ndarray, label: int) -> list[int]:
    return [int(((sides == side) & (labels == label)).sum()) for side in SIDES]


def sides_of_groups(sides: np.ndarray, groups: np.ndarray) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for side, group in zip(sides.tolist(), groups.tolist(), strict=True):
        found.setdefault(group, set()).add(side)
    return found


def test_stratified_counts_are_exact_in_every_class() -> None:
    labels = np.repeat([0, 1, 2], [1000, 200, 20])
    sides = split_by_group(labels, None, SHARES, seed=3)
    assert [count(sides, labels, label) for label in range(3)] == [[650, 150, 200], [130, 30, 40], [13, 3, 4]]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_stratified_is_near_by_class_and_as_a_whole(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    sides = split_by_group(labels, None, SHARES, seed)
    assert set(sides.tolist()) <= set(SIDES)
    for label, size in enumerate(sizes):
        counts = count(sides, labels, label)
        assert sum(counts) == size
        assert size < 3 or min(counts) >= 1
        assert max(abs(num - size * share) for num, share in zip(counts, SHARES, strict=True)) < 2
    if min(sizes) >= 7:  # no class is so small that the one cell on each side decides
        total = [int((sides == side).sum()) for side in SIDES]
        assert max(abs(num - len(labels) * share) for num, share in zip(total, SHARES, strict=True)) <= 2


def test_same_seed_same_split_other_seed_another() -> None:
    labels = np.arange(300) % 3
    first, again, other = (split_by_group(labels, None, SHARES, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@given(st.integers(0, 2**32 - 1), st.integers(3, 60), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_no_group_is_on_two_sides_and_shares_are_near(seed: int, num_groups: int, num_classes: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 50, num_groups)
    groups = np.repeat([f"g{i}" for i in range(num_groups)], sizes)
    labels = rng.integers(-1, num_classes, len(groups))
    sides = split_by_group(labels, groups, SHARES, seed)
    assert all(len(found) == 1 for found in sides_of_groups(sides, groups).values())
    assert set(sides.tolist()) == set(SIDES)
    if num_groups >= 30:
        shares = np.array([(sides == side).mean() for side in SIDES])
        assert np.abs(shares - SHARES).max() < 0.03


def test_few_groups_take_the_nearest_cell_shares() -> None:
    sizes = {"a": 190, "b": 80, "c": 175, "d": 211, "e": 40}
    groups = np.repeat(list(sizes), list(sizes.values()))
    labels = np.zeros(len(groups), dtype=np.int64)
    sides = split_by_group(labels, groups)
    shares = np.array([(sides == side).mean() for side in SIDES])
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


def test_many_groups_come_as_near_as_few_cells_allow() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 5000, 20_000).astype(str)
    labels = rng.integers(0, 5, 20_000)
    sides = split_by_group(labels, groups)
    assert all(len(found) == 1 for found in sides_of_groups(sides, groups).values())
    shares = np.array([(sides == side).mean() for side in SIDES])
    assert np.abs(shares - SHARES).max() < 0.001


def test_classes_count_when_cell_shares_do_not_decide() -> None:
    # Eight groups of equal size, two of them of the rare class: it must reach both sides.
    groups = np.repeat([f"g{i}" for i in range(8)], 10)
    labels = np.repeat([1, 1, 0, 0, 0, 0, 0, 0], 10)
    for seed in range(5):
        sides = split_by_group(labels, groups, (0.5, 0.0, 0.5), seed)
        assert count(sides, labels, 1) == [10, 0, 10]


def test_cells_without_group_are_drawn_one_by_one() -> None:
    groups = np.array(["a"] * 30 + ["b"] * 30 + ["c"] * 40 + [None] * 100, dtype=object)
    labels = np.zeros(200, dtype=np.int64)
    sides = split_by_group(labels, groups)
    assert count(sides[100:], labels[100:], 0) == [65, 15, 20]
    assert all(len(set(sides[groups == name].tolist())) == 1 for name in "abc")


def test_too_few_groups_are_refused_with_a_way_out() -> None:
    labels, groups = np.zeros(20, dtype=np.int64), ["donor_1"] * 10 + ["donor_2"] * 10
    with pytest.raises(
        ArgumentError, match=r"groups must be at least 3 .* got .*donor_1, donor_2.*--split 80/0/20.*--split none"
    ):
        split_by_group(labels, groups)
    sides = split_by_group(labels, groups, (0.8, 0.0, 0.2))
    assert sorted(set(sides.tolist())) == ["test", "train"]
    assert set(split_by_group(labels, groups, (0.0, 0.0, 1.0)).tolist()) == {"test"}


@pytest.mark.parametrize("groups", [None, np.repeat([f"g{i}" for i in range(12)], 25)])
def test_folds_test_each_cell_once_and_keep_groups_whole(groups: np.ndarray | None) -> None:
    labels = np.arange(300) % 3
    folds = k_folds(labels, groups, 5, seed=1)
    assert len(folds) == 5
    assert (sum((fold == "test").astype(int) for fold in folds) == 1).all()
    for fold in folds:
        assert set(fold.tolist()) == set(SIDES)
        if groups is None:
            assert count(fold, labels, 0)[2] == 20
            assert abs((fold == "valid").sum() - 240 * 15 / 80) <= 2
        else:
            assert all(len(found) == 1 for found in sides_of_groups(fold, groups).values())


def test_folds_hold_rare_classes_in_turn() -> None:
    labels = np.repeat([0, 1], [95, 5])
    assert [count(fold, labels, 1)[2] for fold in k_folds(labels, None, 5)] == [1] * 5


def test_each_group_is_tested_once_in_natural_order() -> None:
    groups = np.repeat(["run10", "run9", "run1", "run2"], 10)
    folds = leave_one_group_out(np.arange(40) % 2, groups)
    assert [set(groups[fold == "test"].tolist()) for fold in folds] == [{"run1"}, {"run2"}, {"run9"}, {"run10"}]
    assert all({"train", "valid"} < set(fold.tolist()) for fold in folds)


@pytest.mark.parametrize("k", [1, 5])
def test_folds_out_of_range_are_refused(k: int) -> None:
    with pytest.raises(ArgumentError, match=rf"--folds must be 2 to 4 \(the number of groups\), got {k}"):
        k_folds(np.zeros(40, dtype=np.int64), np.repeat(list("abcd"), 10), k)


def test_group_folds_need_groups() -> None:
    with pytest.raises(ArgumentError, match="where cells have no group"):
        leave_one_group_out(np.zeros(4, dtype=np.int64), ["a", "b", None, "c"])
    with pytest.raises(ArgumentError, match="1 of them"):
        leave_one_group_out(np.zeros(4, dtype=np.int64), ["a"] * 4)


def test_summary_says_which_class_is_missing_where() -> None:
    sides = np.array(["train", "train", "test", "train", "test", "valid"])
    labels = np.array([0, 0, 0, 1, -1, 0])
    summary = summarize_split(sides, labels, ["a", "b"], SHARES)
    assert summary.counts.tolist() == [[2, 1, 1], [1, 0, 0]]
    assert summary.shares == pytest.approx((3 / 6, 1 / 6, 2 / 6))
    assert [note.split(":")[0] for note in summary.notes] == [
        "The valid side has no cell of b",
        "The test side has no cell of b",
    ]
    assert summarize_split(sides[:2], labels[:2], ["a"], SHARES).notes == (
        "No cell is on the valid side.",
        "No cell is on the test side.",
    )


def test_arguments_become_options_and_options_splits() -> None:
    parser = argparse.ArgumentParser()
    add_split_arguments(parser)
    options = split_options(parser.parse_args(["--split", "80/10/10", "--split-seed", "7", "--folds", "3"]))
    assert options == SplitOptions((0.8, 0.1, 0.1), 7, 3)
    splits = make_splits(np.arange(30) % 2, None, options)
    assert list(splits) == ["default", "fold-0", "fold-1", "fold-2"]
    assert (splits["default"] == split_by_group(np.arange(30) % 2, None, (0.8, 0.1, 0.1), 7)).all()
    assert split_options(parser.parse_args(["--folds", "groups"])).folds == "groups"
    none = split_options(parser.parse_args(["--split", "none"]))
    assert make_splits(np.zeros(3), None, none)["default"].tolist() == ["", "", ""]


@pytest.mark.parametrize("text", ["65/15", "65/15/30", "-5/55/50", "a/b/c", "", "nan/50/50"])
def test_shares_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="--split must be three shares"):
        parse_shares(text)


def test_shares_may_be_parts_of_one() -> None:
    assert parse_shares("0.65/0.15/0.2") == pytest.approx(SHARES)


@pytest.mark.parametrize("words", [["--folds", "1"], ["--folds", "many"], ["--split-seed", "-1"]])
def test_arguments_out_of_rule_are_refused(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    add_split_arguments(parser)
    with pytest.raises(ArgumentError, match=words[0]):
        split_options(parser.parse_args(words))
