"""Wrong labels: how many, and which."""

import numpy as np
import pytest

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
