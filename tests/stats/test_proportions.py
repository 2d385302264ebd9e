"""Intervals are the textbook's, and the threshold keeps its promise."""

import numpy as np
import pytest
from scipy.stats import binom

from fastcell.quality.drop_threshold import EVEN, calibrate
from fastcell.stats.proportions import clopper_pearson_interval, clopper_pearson_upper, describe_share


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


def test_the_rule_of_three():
    # No bad cell of 59 below the threshold: at most 5 % at 95 % confidence; of 58 not yet.
    assert calibrate([], 59, 0.05) == (EVEN, True)
    assert calibrate([], 58, 0.05) == (EVEN, False)


def test_as_many_pass_as_may():
    scores = np.linspace(0.01, 0.49, 49)
    threshold = calibrate(scores, 1_000, 0.05)
    passed = int((scores < threshold.score).sum())
    assert threshold.promised
    assert clopper_pearson_upper(passed, 1_000) <= 0.05 < clopper_pearson_upper(passed + 1, 1_000)


def test_the_strictest_one_where_nothing_can_be_promised():
    threshold = calibrate([0.3, 0.2, 0.4], 10, 0.01)
    assert threshold == (pytest.approx(0.2), False)


def test_the_promise_holds_in_repeated_samples():
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(400):
        sample = rng.beta(2, 1, 300)  # scores of bad cells; below s pass s^2 of all
        broken += calibrate(sample, 300, 0.05).score ** 2 > 0.05
    assert broken / 400 <= 0.08
