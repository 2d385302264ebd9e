"""Oversampling and loss weights make classes count alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcell.dataset.class_balance import check_balance, class_weights, logit_shift, oversample, resolve_balance
from fastcell.errors import ArgumentError


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=5), seed=st.integers(0, 2**31))
def test_oversampling_uses_every_cell_about_equally(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = oversample(np.arange(len(labels)), labels, seed)
    times = np.bincount(rows, minlength=len(labels))
    for label in range(len(counts)):
        mine = times[labels == label]
        assert mine.sum() == max(counts)
        assert mine.max() - mine.min() <= 1


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


def test_a_cap_limits_the_repeats():
    labels = np.repeat([0, 1, 2], [100, 30, 3])
    rows = oversample(np.arange(133), labels, 0, cap=10)
    assert np.bincount(labels[rows]).tolist() == [100, 100, 30]
    assert np.bincount(rows)[130:].tolist() == [10, 10, 10]
    assert len(oversample(np.arange(133), labels, 0, cap=1)) == 133
    assert np.bincount(labels[oversample(np.arange(133), labels, 0, cap=2.5)]).tolist() == [100, 75, 7]


@pytest.mark.parametrize(
    ("asked", "counts", "expected"),
    [
        (("auto", None), [100, 10], ("none", None)),
        (("auto", None), [101, 10], ("oversample", 10.0)),
        (("auto", 4), [101, 10], ("oversample", 4)),
        (("auto", None), [50, 0, 40], ("none", None)),
        (("auto", None), [5000, 0, 0], ("none", None)),
        (("auto", None), [], ("none", None)),
        (("oversample", None), [100, 10], ("oversample", None)),
        (("oversample", 3.0), [100, 100], ("oversample", 3.0)),
        (("weights", None), [100, 1], ("weights", None)),
        (("none", None), [100, 1], ("none", None)),
    ],
)
def test_auto_decides_by_the_largest_and_the_smallest_class(asked, counts, expected):
    assert resolve_balance(*asked, counts) == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("rare", None), "balance must be one of auto, none, oversample, weights, got 'rare'"),
        (("auto", 0.5), "balance_cap must be a number of repeats, 1 or more, got 0.5"),
        (("auto", float("inf")), "balance_cap must be a number"),
        (("auto", float("nan")), "balance_cap must be a number"),
        (("oversample", True), "balance_cap must be a number"),
        (("weights", 3), "balance_cap must be left out unless balance is auto or oversample, got 3"),
        (("none", 3), "balance_cap must be left out"),
    ],
)
def test_a_balance_that_cannot_be_is_refused(values, said):
    with pytest.raises(ArgumentError, match=said):
        check_balance(*values)


def test_half_of_the_repeats_is_taken_back():
    found = logit_shift([1.0, 4.0, 10.0, 0.0])
    np.testing.assert_allclose(found, [0, np.log(2), np.log(10) / 2, 0], rtol=1e-6)
    assert found.dtype == np.float32


@given(counts=st.lists(st.integers(1, 4000), min_size=2, max_size=300))
def test_auto_repeats_at_most_ten_times_and_doubles_an_epoch_at_most(counts):
    counts = np.array(counts)
    balance, cap = resolve_balance("auto", None, counts)
    if counts.max() <= 10 * counts.min():
        assert (balance, cap) == ("none", None)
        return
    assert balance == "oversample"
    assert 1 <= cap <= 10
    length = np.minimum(counts.max(), cap * counts).sum() / counts.sum()
    assert length <= 2 + 1e-9
    longer = np.minimum(counts.max(), min(cap * 1.01, 10) * counts).sum() / counts.sum()
    assert cap >= 10 - 1e-9 or longer > 2  # rounding may leave a little of 10


def test_many_rare_classes_beside_a_large_one_are_repeated_less():
    """300 + 199 * 20 cells: the small classes have 3980, so that twice as long leaves 2 * 4280 - 300 rows for them."""
    balance, cap = resolve_balance("auto", None, [300, *[20] * 199])
    assert balance == "oversample"
    assert cap == pytest.approx((2 * 4280 - 300) / 3980)
    assert resolve_balance("auto", 10.0, [300, *[20] * 199]) == ("oversample", 10.0)
