"""Difference of balanced accuracies: values by hand, and the share of intervals that hold the truth."""

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.stats.recall_difference import difference_of_recalls, recall_difference


def test_value_is_the_difference_of_the_mean_recalls():
    labels = np.array([0, 0, 0, 0, 1, 1])
    first = np.array([0, 0, 0, 0, 1, 0])  # recalls 1 and 1/2
    second = np.array([0, 0, 1, 1, 1, 1])  # 1/2 and 1
    found = recall_difference(labels, first, second)
    assert found.value == pytest.approx(0.0)
    assert recall_difference(labels, first, np.array([0, 0, 1, 1, 0, 0])).value == pytest.approx(0.5)
    assert recall_difference(labels, second, first).low == pytest.approx(-found.high)


def test_bounds_without_a_difference_by_hand():
    """Bonett and Price with no discordant cell: variance 2 / (n + 2)^2 in each class."""
    labels = np.repeat([0, 1], [98, 48])
    found = recall_difference(labels, labels, labels)
    half = 1.959964 * np.sqrt(2 / 100**2 + 2 / 50**2) / 2
    assert (found.value, found.low, found.high) == pytest.approx((0.0, -half, half), rel=1e-5)
    assert found.by == "cell"


def test_groups_that_differ_widen_the_interval():
    labels = np.tile([0, 1], 200)
    groups = np.repeat(["a", "b", "c", "d"], 100)
    wrong = np.where(groups == "a", 1 - labels, labels)
    by_cell = recall_difference(labels, labels, wrong)
    by_group = recall_difference(labels, labels, wrong, groups)
    assert by_group.value == pytest.approx(0.25)
    assert (by_group.by, by_group.num_groups) == ("group", 4)
    assert by_group.high - by_group.low > 3 * (by_cell.high - by_cell.low)
    assert recall_difference(labels, labels, wrong, np.full(400, "one")).high == pytest.approx(by_cell.high)


@pytest.mark.parametrize(("cells", "rate"), [((400, 400), 0.01), ((300, 40), 0.02), ((60, 60, 20), 0.05)])
def test_the_interval_holds_the_truth_as_often_as_it_says(cells, rate):
    """Each method alone is wrong on a share `rate` of each class: the true difference is 0."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(len(cells)), cells)
    held = 0
    for _ in range(400):
        draw = rng.random(len(labels))
        first = np.where(draw < rate, labels + 1, labels)
        second = np.where(draw > 1 - rate, labels + 1, labels)
        found = recall_difference(labels, first, second)
        held += found.low <= 0 <= found.high
    assert held >= 0.94 * 400


def test_groups_of_very_different_size_cover_the_difference():
    """Three groups of 1,000, 200 and 60 cells whose two methods differ by chance from group to group."""
    rng = np.random.default_rng(0)
    cells = np.tile([[500.0], [30.0], [100.0]], (500, 1, 2))
    rates = 0.15 * (1 + 0.5 * np.tanh(rng.standard_normal((2, 500, 3, 1))))
    plus, minus = (rng.binomial(cells.astype(int), rate).astype(float) for rate in rates)
    found = difference_of_recalls(plus, minus, cells)
    held = (found.low <= 0) & (found.high >= 0)
    assert held.mean() >= 0.93
    assert (found.num_groups == 3).all()


def test_few_groups_name_the_limitation_that_the_interval_has():
    labels, groups = np.tile([0, 1], 30), np.repeat(["a", "b", "c"], 20)
    found = recall_difference(labels, labels, 1 - labels, groups)
    assert found.note == "3 groups only, interval relies on a normal distribution between groups"
    assert recall_difference(labels, labels, labels, np.full(60, "a")).note.startswith("1 group only")


def test_many_sets_at_once_are_as_one_by_one():
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 9, (6, 4, 3)).astype(float)
    plus = rng.binomial(cells.astype(int), 0.2).astype(float)
    minus = rng.binomial((cells - plus).astype(int), 0.2).astype(float)
    whole = difference_of_recalls(plus, minus, cells)
    for number in range(6):
        one = difference_of_recalls(plus[number], minus[number], cells[number])
        for ours, of_all in zip(one, whole, strict=True):
            assert ours == pytest.approx(of_all[number])


def test_no_cells_are_refused():
    with pytest.raises(ArgumentError, match="1 or more cells"):
        recall_difference(np.empty(0, int), np.empty(0, int), np.empty(0, int))
