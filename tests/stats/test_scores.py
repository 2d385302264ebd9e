"""Scores against numbers worked out by hand and against scikit-learn."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

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
    assert text.endswith("by group (3 groups only, interval relies on an assumed spread between groups); 20 cells")
    one = summarize(labels, predicted, ["x", "y"], np.array(["a"] * 21))
    assert (one["interval_by"], one["num_groups"]) == ("cell", 1)
    assert "by cell (1 group only: holds for further cells of this group" in format_scores(one)
    assert "by cell: they hold for cells drawn as these were" in format_scores(summarize(labels, predicted, ["x", "y"]))


def test_small_numbers_have_wide_intervals():
    found = summarize(np.zeros(4, int), np.zeros(4, int), ["x", "y"])
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == (pytest.approx(0.3976, abs=1e-4), 1)
    precision = found["classes"]["y"]["precision"]
    assert precision == {"value": 0.0, "low": None, "high": None, "by": "none", "note": "no cell is called this"}
    assert format_scores(found).splitlines()[3].split() == ["precision", "1.000", "-"]
    nothing = summarize(np.array([-1]), np.array([0]), ["x", "y"], np.array(["a"]))
    assert (nothing["num_cells"], nothing["accuracy"]["value"], nothing["accuracy"]["note"]) == (0, None, "no cells")


def test_a_class_of_one_group_is_by_cell_and_says_so():
    labels = np.array([0] * 30 + [1] * 10)
    groups = np.array(["a"] * 10 + ["b"] * 10 + ["c"] * 20)
    found = summarize(labels, labels, ["x", "y"], groups)
    assert found["interval_by"] == "group"
    assert found["classes"]["x"]["recall"]["by"] == "group"
    assert found["classes"]["y"]["recall"]["by"] == "cell"
    assert "y: 1 group only: holds for further cells of this group" in format_scores(found)


def test_cells_without_a_group_are_groups_by_themselves():
    labels = np.zeros(12, int)
    assert summarize(labels, labels, ["x", "y"], np.array(["a"] * 4 + [""] * 8))["num_groups"] == 9


def test_many_cells_and_groups_take_little_time():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, (2, 1_000_000))
    start = time.process_time()
    found = summarize(labels, predicted, list("abcd"), rng.integers(0, 10_000, 1_000_000))
    assert time.process_time() - start < 5
    assert found["accuracy"]["high"] - found["accuracy"]["low"] < 0.003


def test_many_classes_take_blocks_and_an_end():
    names = [f"class-{number:03d}" for number in range(100)]
    text = format_scores(summarize(np.arange(100), np.arange(100), names))
    assert max(map(len, text.splitlines())) < 200
    assert sum(line.startswith("precision") for line in text.splitlines()) == 5
    assert "and 40 more classes: metrics.json has all" in text
