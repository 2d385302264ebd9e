"""Difference of balanced accuracies: values by hand, and the share of intervals that hold the truth."""

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.stats.recall_difference import recall_difference


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


def test_no_cells_are_refused():
    with pytest.raises(ArgumentError, match="1 or more cells"):
        recall_difference(np.empty(0, int), np.empty(0, int), np.empty(0, int))
