"""Intervals of proportions are the textbook's."""

import pytest
from scipy.stats import binom

from fastcell.stats.proportions import clopper_pearson_interval, clopper_pearson_upper, describe_share, wilson_interval


@pytest.mark.parametrize(("num", "of"), [(0, 10), (3, 10), (10, 10), (7, 3973), (1, 1)])
def test_the_interval_leaves_out_what_is_unlikely(num, of):
    low, high = clopper_pearson_interval(num, of)
    assert low <= num / of <= high
    if num:
        assert binom.sf(num - 1, of, low) == pytest.approx(0.025, rel=1e-6)
    if num < of:
        assert binom.cdf(num, of, high) == pytest.approx(0.025, rel=1e-6)
        assert binom.cdf(num, of, clopper_pearson_upper(num, of)) == pytest.approx(0.05, rel=1e-6)


def test_nothing_of_nothing():
    assert clopper_pearson_interval(0, 0) == (0.0, 1.0)
    assert describe_share(0, 0) == "0 of 0"
    assert describe_share(1, 20) == "1 of 20 (5.00 %, 95 % interval 0.13 to 24.87 %)"


def test_wilson_interval():
    assert wilson_interval(100, 100) == pytest.approx((0.9630, 1.0), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
