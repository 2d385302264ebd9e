"""The threshold keeps its promise."""

import numpy as np
import pytest

from fastcell.quality.drop_threshold import EVEN, calibrate
from fastcell.stats.proportions import clopper_pearson_upper


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
