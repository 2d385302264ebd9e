"""ROC, precision-recall and reject curves against scikit-learn and against sets ranked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fastcell.stats import operating_curves
from fastcell.stats.operating_curves import class_curve, coverage_at, reject_curve, thinned
from fastcell.stats.score_intervals import proportion


@given(st.integers(2, 300), st.integers(0, 10**6), st.booleans())
def test_agrees_with_scikit_learn(num, seed, tied):
    rng = np.random.default_rng(seed)
    chances = rng.random(num)
    if tied:
        chances = chances.round(1)
    is_class = rng.random(num) < chances
    curve = class_curve(chances, is_class)
    if is_class.all() or not is_class.any():
        assert curve is None
        return
    assert curve.area.value == pytest.approx(metrics.roc_auc_score(is_class, chances))
    assert curve.average_precision.value == pytest.approx(metrics.average_precision_score(is_class, chances))
    false, true, threshold = metrics.roc_curve(is_class, chances, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, false)
    np.testing.assert_allclose(curve.true_positive_rate, true)
    np.testing.assert_allclose(curve.threshold, threshold)


def test_the_interval_holds_the_area_and_is_wider_by_group():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 40)
    is_class = np.tile([True, False], 200)
    chances = np.where(is_class, rng.normal(0.5 + (groups % 2), 0.3), rng.normal(0.5, 0.3))
    by_cell, by_group = class_curve(chances, is_class), class_curve(chances, is_class, groups)
    for cell, group in ((by_cell.area, by_group.area), (by_cell.average_precision, by_group.average_precision)):
        assert group.low < cell.low < cell.value < cell.high < group.high


def test_a_perfectly_ranked_set_gives_a_falling_reject_curve():
    confidence = np.linspace(0.99, 0.5, 100)
    labels = (np.arange(100) >= 60).astype(int)  # the 60 most confident calls are right, the others wrong
    curve = reject_curve(np.stack([confidence, 1 - confidence], axis=1), labels)
    assert (np.diff(curve.accuracy) <= 0).all()
    assert curve.accuracy[59] == 1
    assert curve.accuracy[-1] == pytest.approx(0.6)
    np.testing.assert_allclose(curve.coverage, np.arange(1, 101) / 100)
    np.testing.assert_allclose(curve.threshold, confidence)
    assert coverage_at(curve, 1.0) == pytest.approx(0.6)
    assert coverage_at(curve, 0.75) == pytest.approx(0.8)
    assert (curve.low <= curve.accuracy).all()
    assert curve.low[0] == pytest.approx(0.025)  # 1 of 1: Clopper-Pearson
    assert coverage_at(curve, 0.9, lower_end=True) == pytest.approx(0.61)


@pytest.mark.parametrize("at_once", [50, 10**6])
def test_the_band_is_the_interval_of_the_share_at_each_threshold(monkeypatch, at_once):
    monkeypatch.setattr(operating_curves, "_MOST_COUNTS", at_once)
    rng = np.random.default_rng(0)
    probabilities, labels, groups = rng.dirichlet(np.ones(3), 60), rng.integers(0, 3, 60), rng.integers(0, 4, 60)
    curve = reject_curve(probabilities, labels, groups)
    order = np.argsort(-probabilities.max(1), kind="stable")
    right = (probabilities.argmax(1) == labels)[order]
    for end in (0, 7, 30, 59):
        units = groups[order][: end + 1]
        expected = proportion(np.bincount(units, right[: end + 1]), np.bincount(units))
        assert (curve.low[end], curve.high[end]) == pytest.approx((float(expected.low), float(expected.high)))


def test_cells_of_equal_confidence_are_answered_together():
    probabilities = np.array([[0.9, 0.1]] * 2 + [[0.6, 0.4]] * 2)
    curve = reject_curve(probabilities, np.array([0, 1, 0, 0]))
    assert curve.coverage.tolist() == [0.5, 1.0]
    assert curve.accuracy.tolist() == [0.5, 0.75]
    assert coverage_at(curve, 0.9) == 0


def test_long_curves_keep_their_ends():
    values = thinned(np.arange(5000), most=11)
    assert values.tolist() == [round(i * 499.9) for i in range(11)]
    assert thinned(np.arange(11), most=11).tolist() == list(range(11))
