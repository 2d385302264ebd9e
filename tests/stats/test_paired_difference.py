"""Paired comparison: p by enumeration, words, false verdicts of equal methods, coverage."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastcell.errors import ArgumentError
from fastcell.stats import paired_difference
from fastcell.stats.intervals import Interval
from fastcell.stats.paired_difference import Comparison, FlipTest, compare_paired, difference_by_group, sign_flip


@settings(max_examples=150)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9))
def test_p_is_that_of_all_signs(sums):
    signs = np.array(list(itertools.product((1, -1), repeat=len(sums))))
    expected = (np.abs(signs @ np.array(sums)) >= abs(sum(sums))).mean()
    found = sign_flip(sums)
    assert found.p == pytest.approx(expected)
    assert found.error == 0
    differ = sum(value != 0 for value in sums)
    assert (found.num_units, found.num_differ) == (len(sums), differ)
    assert found.least_p == (2 / 2**differ if differ else 1)


def test_by_cell_it_is_mcnemar():
    for plus, minus in ((6, 0), (30, 14), (500, 430)):
        found = sign_flip([1] * plus + [-1] * minus + [0] * 50)
        assert found.p == pytest.approx(stats.binomtest(plus, plus + minus).pvalue)


def test_random_flips_agree_and_state_their_error(monkeypatch):
    sums = np.arange(-20, 45)
    exact = sign_flip(sums)
    monkeypatch.setattr(paired_difference, "_MOST_STEPS", 10)
    drawn = sign_flip(sums)
    assert drawn.error == pytest.approx(np.sqrt(drawn.p * (1 - drawn.p) / 20_000))
    assert abs(drawn.p - exact.p) < 4 * drawn.error + 1 / 20_000
    assert sign_flip(sums) == drawn


def test_one_million_cells_and_ten_thousand_groups():
    rng = np.random.default_rng(0)
    first, second = (rng.random((2, 1_000_000)) < [[0.8], [0.79]]).astype(int)
    for groups in (None, rng.integers(0, 10_000, 1_000_000)):
        found = compare_paired(first, second, groups)
        assert found.test.p < 1e-10
        assert found.test.error == 0
        assert found.difference.value == pytest.approx(0.01, abs=0.002)


def groups_of(num, wins):
    """`num` groups of 20 cells; the first method wins `wins` cells in each."""
    first = np.tile(np.arange(20) < 15, num).astype(int)
    second = np.tile((np.arange(20) < 15 - wins), num).astype(int)
    return first, second, np.repeat(np.arange(num), 20)


@pytest.mark.parametrize("num", [2, 3, 4, 5])
def test_few_groups_cannot_tell(num):
    found = compare_paired(*groups_of(num, 6))
    assert found.difference.value == pytest.approx(0.3)
    although = ", although the interval excludes 0" if num == 5 else ""
    assert (found.difference.low > 0) == bool(although)
    assert found.verdict() == f"cannot tell with {num} groups{although}"


def test_chance_beside_an_interval_that_excludes_0_is_said():
    found = Comparison(Interval(0.1, 0.01, 0.2, "group", 7, ""), FlipTest(0.0625, 1 / 64, 7, 7, 0.0))
    assert found.verdict() == "may be chance (p = 0.062), although the interval excludes 0"
    touching = Comparison(Interval(0.1, 0.0, 0.2, "group", 7, ""), FlipTest(0.0625, 1 / 64, 7, 7, 0.0))
    assert touching.verdict() == "may be chance (p = 0.062)"


def test_words():
    assert (
        compare_paired(*groups_of(6, 6))
        .verdict("CNN is better", "kNN is better")
        .startswith("CNN is better (p = 0.031)")
    )
    first, second, groups = groups_of(6, 6)
    assert compare_paired(second, first, groups).verdict("CNN is better", "kNN is better").startswith("kNN is better")
    assert compare_paired(first, first, groups).verdict() == "cannot tell with 6 groups: 0 differ, 6 are needed"
    alone = compare_paired(first, second, np.zeros(120))
    assert alone.unit == "cell"
    assert alone.verdict() == "the first is better (p = 2.9e-11); for cells of this one group only"
    assert compare_paired([1, 0, 1], [0, 0, 1]).verdict() == "cannot tell with 3 cells"
    mixed = compare_paired([1] * 8 + [0] * 8, [0] * 8 + [1] * 8)
    assert mixed.verdict() == "may be chance (p = 1)"
    assert "source cells" in compare_paired(*groups_of(3, 6)).verdict(unit="source cell")


def test_seeds_count_as_means():
    once = compare_paired([1, 1, 0, 1], [0, 1, 0, 0])
    thrice = compare_paired([3, 3, 0, 3], [0, 3, 0, 0], trials=3)
    assert thrice.difference == once.difference
    with pytest.raises(ArgumentError, match="must be 0 to 1"):
        compare_paired([2], [0])
    with pytest.raises(ArgumentError, match="1 or more cells"):
        compare_paired([], [])


@settings(max_examples=100)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 10**6))
def test_by_group_is_never_narrower_than_by_cell(num, num_groups, seed):
    rng = np.random.default_rng(seed)
    first, second = (rng.random((2, num)) < 0.7).astype(int)
    by_cell = compare_paired(first, second).difference
    by_group = compare_paired(first, second, rng.integers(0, num_groups, num)).difference
    assert -1 <= by_group.low <= by_cell.low <= by_cell.value <= by_cell.high <= by_group.high <= 1


@pytest.mark.parametrize("num_groups", [2, 4, 8])
def test_equal_methods(num_groups):
    """False verdicts and coverage of 0 in 1,000 sets."""
    rng = np.random.default_rng(0)
    rates = 1 / (1 + np.exp(-2 - 0.6 * rng.standard_normal((2, 1000, num_groups))))
    four = np.stack([rates[0] * rates[1], rates[0] * (1 - rates[1]), (1 - rates[0]) * rates[1]], axis=-1)
    counts = rng.multinomial(60, np.concatenate([four, 1 - four.sum(-1, keepdims=True)], axis=-1))
    first, second = counts[..., 0] + counts[..., 1], counts[..., 0] + counts[..., 2]
    cells = np.full(first.shape, 60.0)
    found = difference_by_group(first, second, cells, *(counts[..., at].sum(1).astype(float) for at in (1, 2)))
    assert ((found.low <= 0) & (found.high >= 0)).mean() >= 0.93
    assert np.mean([sign_flip(row).p <= 0.05 for row in first - second]) <= 0.06
