"""Wrong labels: how many, and which."""

import dataclasses

import numpy as np
import pytest

from fastcell.audit import label_noise
from fastcell.audit.collect import _noise_finding
from fastcell.audit.findings import judge
from fastcell.audit.label_noise import find_label_noise


def make(seed, num=1500, gap=3.0, flipped=0.0):
    """Three Gaussian classes in the plane; labels, features, and which are wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, num)
    centers = gap * np.array([[0, 0], [1, 0], [0.5, 0.9]])
    features = centers[truth] + rng.normal(size=(num, 2))
    wrong = rng.random(num) < flipped
    labels = np.where(wrong, (truth + rng.integers(1, 3, num)) % 3, truth)
    return features, labels, wrong


def test_the_share_of_wrong_labels_is_estimated_and_they_are_found():
    features, labels, wrong = make(0, gap=5.0, flipped=0.05)
    found = find_label_noise(features, labels, 60, np.random.default_rng(0))
    assert found.result.number == pytest.approx(wrong.mean(), abs=0.015)
    assert found.result.p == pytest.approx(1 / 61)
    chosen = found.rows[found.candidates()]
    assert wrong[chosen].mean() > 0.85
    assert wrong[chosen].sum() > 0.85 * wrong.sum()
    assert (np.diff(found.wrong[found.candidates()]) <= 1e-12).all()


def test_overlapping_classes_are_no_wrong_labels():
    features, labels, _ = make(1, gap=2.0)
    found = find_label_noise(features, labels, 60, np.random.default_rng(0))
    assert found.balanced_accuracy < 0.85
    assert found.result.p > 0.02  # no alarm among several tests
    assert len(found.candidates()) <= 15  # of 1,500


def test_wrong_labels_among_overlapping_classes():
    features, labels, wrong = make(2, num=4000, gap=3.0, flipped=0.05)
    found = find_label_noise(features, labels, 60, np.random.default_rng(0))
    assert found.result.number == pytest.approx(wrong.mean(), abs=0.02)


def test_classes_that_nothing_tells_raise_no_doubt_of_single_labels():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 300)
    found = find_label_noise(rng.normal(size=(300, 90)), labels, 30, rng)
    assert found.result.number > 0.3  # it is wrong however sure it is
    assert not found.separates_classes
    assert len(found.candidates()) == 0


def test_too_few():
    features, labels, _ = make(3, num=100)
    assert find_label_noise(features, labels, 20, np.random.default_rng(0)) is None
    assert find_label_noise(np.ones((500, 2)), np.zeros(500, np.int64), 20, np.random.default_rng(0)) is None


def test_a_share_is_given_only_where_the_model_describes_the_disagreement():
    features, labels, _ = make(5, gap=3.0, flipped=0.03)
    found = find_label_noise(features, labels, 20, np.random.default_rng(0))
    assert found.p_fit > 0.05
    margins = np.random.default_rng(1).uniform(0, 8, 3000)  # disagreement that rises and falls with confidence
    disagree = np.random.default_rng(2).random(3000) < np.where((margins > 3) & (margins < 5), 0.5, 0.02)
    assert label_noise._check_fit(margins, disagree, np.random.default_rng(3)) < label_noise.LEAST_FIT_P


def test_planted_swaps_stand_first_between_distinct_classes_and_raise_the_share():
    features, labels, _ = make(6, num=2000, gap=5.0)
    before = find_label_noise(features, labels, 20, np.random.default_rng(0))
    planted = np.random.default_rng(7).permutation(2000)[:40]
    labels[planted] = (labels[planted] + 1) % 3
    after = find_label_noise(features, labels, 20, np.random.default_rng(0))
    assert after.result.number - before.result.number == pytest.approx(0.02, abs=0.01)
    first = after.rows[after.candidates()][:40]
    assert np.isin(first, planted).mean() > 0.8


def test_the_finding_is_a_warning_at_most_and_speaks_of_no_wrong_labels():
    features, labels, _ = make(0, gap=5.0, flipped=0.1)
    made = find_label_noise(features, labels, 60, np.random.default_rng(0))
    (judged,) = judge([_noise_finding(made)])
    assert judged.verdict == "warning"
    assert judged.unit == "share of confident disagreement"
    assert "not the share of wrong labels" in judged.says["warning"]
    unfit = _noise_finding(dataclasses.replace(made, p_fit=0.001))
    assert (unfit.verdict, unfit.result) == ("cannot tell", None)
