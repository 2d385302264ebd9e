"""Resampling: what is drawn, and intervals known from theory."""

import numpy as np
import pytest

from fastcell.stats.bootstrap import bootstrap, interval, paired_difference, resample, usable_groups
from fastcell.stats.scores import score


def test_resamples_are_of_whole_groups_and_of_the_right_size():
    groups = np.array(["a", "a", "b", "c"])
    for weight in resample(4, groups, 50):
        assert weight[0] == weight[1]
        assert weight[0] + weight[2] + weight[3] == 3
    assert all(weight.sum() == 4 for weight in resample(4, None, 50))
    assert usable_groups(np.array(["a", "a"])) is None
    assert usable_groups(None) is None


def test_bootstrap_by_cell_has_the_binomial_spread():
    labels = np.zeros(400, int)
    predicted = (np.arange(400) >= 300).astype(int)
    low, high = interval(score(bootstrap(labels, predicted, 2)).accuracy)
    sigma = np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - 1.96 * sigma, abs=0.01)
    assert high == pytest.approx(0.75 + 1.96 * sigma, abs=0.01)


def test_bootstrap_by_group_is_wider_where_groups_differ():
    labels = np.zeros(400, int)
    groups = np.repeat(np.arange(8), 50)
    predicted = (groups >= 6).astype(int)  # two recordings wrong throughout
    by_cell = interval(score(bootstrap(labels, predicted, 2)).accuracy)
    by_group = interval(score(bootstrap(labels, predicted, 2, groups)).accuracy)
    assert by_group[1] - by_group[0] > 3 * (by_cell[1] - by_cell[0])


def test_every_resample_by_group_is_made_of_whole_groups():
    labels = np.array([0, 0, 1, 1, 1])
    groups = np.array(["a", "a", "b", "b", "b"])
    tables = bootstrap(labels, labels, 2, groups, num_resamples=200)
    seen = {tuple(np.diagonal(table)) for table in tables}
    assert seen == {(4, 0), (2, 3), (0, 6)}


def test_paired_difference():
    labels = np.zeros(1000, int)
    first, second = np.zeros(1000, int), np.zeros(1000, int)
    first[:100] = 1
    second[50:250] = 1
    gain, low, high = paired_difference(labels, first, second)
    assert gain == pytest.approx(0.1)
    spread = np.sqrt((0.05 + 0.15 - 0.1**2) / 1000)
    assert low == pytest.approx(0.1 - 1.96 * spread, abs=0.004)
    assert high == pytest.approx(0.1 + 1.96 * spread, abs=0.004)
    assert paired_difference(labels, first, first) == (0, 0, 0)
