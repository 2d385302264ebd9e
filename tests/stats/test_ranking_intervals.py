"""ROC area and average precision: values of scikit-learn, small classes, ties, coverage."""

import numpy as np
import pytest
from sklearn import metrics

from fastcell.errors import ArgumentError
from fastcell.stats.ranking_intervals import average_precision, roc_area


@pytest.mark.parametrize("tied", [False, True])
def test_values_are_those_of_scikit_learn(tied):
    rng = np.random.default_rng(0)
    for _ in range(20):
        num = int(rng.integers(8, 200))
        scores = rng.random(num).round(1) if tied else rng.random(num)
        positive = rng.random(num) < 0.2 + 0.6 * scores
        positive[:4] = [True, True, True, False]
        groups = rng.integers(0, 4, num)
        for found, value in (
            (roc_area(scores, positive, groups), metrics.roc_auc_score(positive, scores)),
            (average_precision(scores, positive, groups), metrics.average_precision_score(positive, scores)),
        ):
            assert found.value == pytest.approx(value)
            assert 0 <= found.low <= found.value <= found.high <= 1


def test_one_positive_cell_says_little():
    separated = np.array([5.0, 1, 2, 3])
    positive = np.array([True, False, False, False])
    area = roc_area(separated, positive)
    assert (area.value, area.high) == (1, 1)
    assert area.low < 0.1  # the bootstrap said 1 to 1
    precise = average_precision(separated, positive)
    assert precise.describe() == "1.000 (no interval: 1 cell of the class)"


def test_all_tied_and_one_kind():
    tied = roc_area(np.ones(10), np.arange(10) < 5)
    assert tied.value == 0.5
    assert tied.low < 0.35
    assert tied.high > 0.65
    for found in (roc_area(np.arange(3.0), np.ones(3, bool)), average_precision(np.arange(3.0), np.zeros(3, bool))):
        assert np.isnan(found.low)
        assert found.note == "cells of one kind only"


def test_a_score_that_is_no_number():
    with pytest.raises(ArgumentError, match=r"scores must be numbers, got NaN for 1 cells"):
        roc_area(np.array([1.0, np.nan]), np.array([True, False]))


def test_influences_are_what_one_more_cell_does():
    """The variance of average precision by cell is near that of resampled cells where there are many."""
    rng = np.random.default_rng(0)
    positive = np.arange(1000) < 500
    values = []
    for _ in range(300):
        scores = rng.normal(positive, 1.0)
        values.append(metrics.average_precision_score(positive, scores))
    found = average_precision(scores, positive)
    width = found.high - found.low
    assert 2 * 1.96 * np.std(values) <= width < 2.2 * 2 * 1.96 * np.std(values)


@pytest.mark.parametrize(("groups", "ups", "downs"), [(0, 3, 40), (0, 10, 40), (3, 10, 40)])
def test_coverage(groups, ups, downs):
    """400 sets; groups shift each class by 0.5."""
    rng = np.random.default_rng(0)
    times, shift = max(groups, 1), 0.5 * (groups > 0)
    positive = np.tile(np.arange(ups + downs) < ups, times)
    names = np.repeat(np.arange(times), ups + downs) if groups else None
    gap = 1.2 * np.sqrt(2) * np.sqrt(1 + shift**2)
    truth = 0.8849303297782918  # of a standard normal up to 1.2
    covered = 0
    for _ in range(400):
        moved = np.repeat(rng.standard_normal((times, 2)) * shift, [ups, downs], axis=1).ravel()
        found = roc_area(np.where(positive, gap, 0) + moved + rng.standard_normal(len(positive)), positive, names)
        covered += found.low <= truth <= found.high
    assert covered >= 0.93 * 400
