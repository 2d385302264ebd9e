"""Scores against numbers worked out by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fastcell.stats.bootstrap import paired_difference, percentile_interval, resample_confusion
from fastcell.stats.confusion import confusion_matrix
from fastcell.stats.scores import format_scores, score, summarize


def test_by_hand():
    scores = score(np.array([[8, 2, 0], [1, 3, 0], [0, 0, 6]]))
    np.testing.assert_allclose(scores.precision, [8 / 9, 3 / 5, 1])
    np.testing.assert_allclose(scores.recall, [0.8, 0.75, 1])
    np.testing.assert_allclose(scores.f_score, [16 / 19, 6 / 9, 1])
    assert scores.accuracy == pytest.approx(17 / 20)
    assert scores.balanced_accuracy == pytest.approx((0.8 + 0.75 + 1) / 3)
    # equation 6: (TP + TN) / N per class: 17 / 20, 17 / 20 and 20 / 20
    assert scores.one_vs_rest_accuracy == pytest.approx((17 + 17 + 20) / 60)


def test_classes_that_do_not_occur_or_are_not_called():
    scores = score(np.array([[4, 0, 0], [2, 0, 0], [0, 0, 0]]))
    assert scores.precision.tolist() == [4 / 6, 0, 0]
    assert scores.recall[:2].tolist() == [1, 0]
    assert np.isnan(scores.recall[2])
    assert np.isnan(scores.f_score[2])
    assert scores.balanced_accuracy == 0.5


@given(st.integers(2, 5), st.integers(1, 200), st.integers(0, 10**6))
def test_agrees_with_scikit_learn(num_classes, num_cells, seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, num_classes, (2, num_cells))
    confusion = confusion_matrix(labels, predicted, num_classes)
    names = np.arange(num_classes)
    assert np.array_equal(confusion, metrics.confusion_matrix(labels, predicted, labels=names))
    precision, recall, f_score, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=names, zero_division=0
    )
    scores = score(confusion)
    np.testing.assert_allclose(scores.precision, precision)
    np.testing.assert_allclose(np.nan_to_num(scores.recall), recall)
    np.testing.assert_allclose(np.nan_to_num(scores.f_score), f_score)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))


def test_unknown_labels_do_not_count():
    assert confusion_matrix(np.array([0, -1, 1]), np.array([0, 1, 0]), 2).tolist() == [[1, 0], [1, 0]]


def test_bootstrap_by_cell_has_the_binomial_spread():
    labels = np.zeros(400, int)
    predicted = (np.arange(400) >= 300).astype(int)
    low, high = percentile_interval(score(resample_confusion(labels, predicted, 2)).accuracy)
    sigma = np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - 1.96 * sigma, abs=0.01)
    assert high == pytest.approx(0.75 + 1.96 * sigma, abs=0.01)


def test_bootstrap_by_group_is_wider_where_groups_differ():
    labels = np.zeros(400, int)
    groups = np.repeat(np.arange(8), 50)
    predicted = (groups >= 6).astype(int)  # two recordings wrong throughout
    by_cell = percentile_interval(score(resample_confusion(labels, predicted, 2)).accuracy)
    by_group = percentile_interval(score(resample_confusion(labels, predicted, 2, groups)).accuracy)
    assert by_group[1] - by_group[0] > 3 * (by_cell[1] - by_cell[0])


def test_every_resample_by_group_is_made_of_whole_groups():
    labels = np.array([0, 0, 1, 1, 1])
    groups = np.array(["a", "a", "b", "b", "b"])
    tables = resample_confusion(labels, labels, 2, groups, num_resamples=200)
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


def test_summary_and_table():
    labels = np.array([0] * 10 + [1] * 10 + [-1])
    predicted = np.array([0] * 9 + [1] * 11 + [0])
    summary = summarize(labels, predicted, ["THP1", "MCF7", "none"], np.array(["a", "b", "c"] * 7))
    assert summary["num_cells"] == 20
    assert summary["interval_by"] == "group"
    assert summary["accuracy"]["value"] == 0.95
    assert summary["accuracy"]["low"] <= 0.95 <= summary["accuracy"]["high"]
    assert summary["classes"]["none"]["recall"]["value"] is None
    text = format_scores(summary)
    assert "1.000" in text.split("\n")[3]
    assert text.split("\n")[0].split() == ["THP1", "MCF7", "none"]
    assert "accuracy" in text
    assert summarize(labels, predicted, ["x", "y"], np.array(["a"] * 21))["interval_by"] == "cell"
