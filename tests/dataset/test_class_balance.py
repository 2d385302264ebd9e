"""Oversampling and loss weights make classes count alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcell.dataset.class_balance import class_weights, oversample


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=5), seed=st.integers(0, 2**31))
def test_oversampling_uses_every_cell_about_equally(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = oversample(np.arange(len(labels)), labels, seed)
    times = np.bincount(rows, minlength=len(labels))
    for label in range(len(counts)):
        mine = times[labels == label]
        assert mine.sum() == max(counts)
        assert mine.max() - mine.min() <= 1


def test_cells_without_a_class_are_kept_once():
    labels = np.array([0, -1, 1, 0, 0, -1])
    rows = oversample(np.arange(10, 16), labels, seed=0)
    assert rows.tolist() == [10, 11, 12, 12, 12, 13, 14, 15]
    np.testing.assert_array_equal(oversample(np.arange(10, 16), labels, 7), rows)


def test_weights_are_inverse_frequencies_of_mean_1():
    labels = np.array([0, 0, 0, 2, -1])
    weights = class_weights(labels, 4)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [4 / (2 * 3), 0, 4 / 2, 0], rtol=1e-6)
    assert weights[labels[labels >= 0]].mean() == np.float32(1)


def test_oversampling_by_hand():
    rows = np.array([10, 11, 12, 13, 20, 30])
    labels = np.array([0, 0, 0, 0, 1, -1])
    assert oversample(rows, labels, 0).tolist() == [10, 11, 12, 13, 20, 20, 20, 20, 30]
    assert oversample(rows[:0], labels[:0], 0).tolist() == []


def test_the_seed_chooses_what_is_repeated():
    labels = np.repeat([0, 1], [30, 20])
    one, same, other = (oversample(np.arange(50), labels, seed) for seed in (1, 1, 2))
    assert one.tolist() == same.tolist()
    assert one.tolist() != other.tolist()
    assert len(one) == 60


def test_weights_are_inverse_frequencies_of_mean_one():
    labels = np.array([0, 0, 0, 2, -1])
    weights = class_weights(labels, 4)
    np.testing.assert_allclose(weights, [4 / (2 * 3), 0, 4 / 2, 0], rtol=1e-6)
    assert weights.dtype == np.float32
    assert weights[labels[labels >= 0]].mean() == pytest.approx(1)
    assert class_weights(labels[:0], 2).tolist() == [0, 0]
