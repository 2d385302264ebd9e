import numpy as np
import pytest
from scipy import stats

from fastcell.stats.excess import _upper_tail, above_chance


def test_groups_above_chance_by_falling_share():
    groups = np.repeat(["a", "b", "c", "d"], [100, 50, 40, 5])
    hits = np.zeros(195, bool)
    hits[:4], hits[100:120], hits[150:180], hits[190:192] = True, True, True, True
    assert above_chance(hits, groups, 0.05) == [("c", 30, 40), ("b", 20, 50)]


def test_the_correction_is_for_the_number_of_groups():
    hits = np.arange(20) < 4  # p 0.016 at chance 0.05
    assert above_chance(hits, np.full(20, "x"), 0.05) == [("x", 4, 20)]
    many = np.concatenate([hits, np.zeros(180, bool)])
    assert above_chance(many, np.repeat([str(number) for number in range(10)], 20), 0.05) == []


def test_false_alarms_are_rare():
    rng = np.random.default_rng(0)
    groups = np.repeat([str(number) for number in range(20)], 50)
    named = [bool(above_chance(rng.random(1000) < 0.05, groups, 0.05)) for _ in range(400)]
    assert np.mean(named) < 0.07


def test_no_hits_and_all_hits():
    assert above_chance(np.zeros(10, bool), np.full(10, ""), 0.05) == []
    assert above_chance(np.ones(3, bool), np.array(["", "", "a"]), 0.02) == [("", 2, 2), ("a", 1, 1)]


@pytest.mark.parametrize("chance", [1e-6, 0.05, 0.5, 0.999])
def test_the_probabilities_are_those_of_scipy(chance):
    rng = np.random.default_rng(0)
    sizes = np.concatenate([np.arange(1, 40), rng.integers(40, 10_000, 60), [3_000_000]])
    counts = np.minimum(sizes, rng.binomial(sizes, chance) + rng.integers(0, 30, len(sizes)))
    counts = np.concatenate([counts, sizes])
    sizes = np.concatenate([sizes, sizes])
    expected = np.where(counts > chance * sizes, stats.binom.sf(counts - 1, sizes, chance), 1.0)
    np.testing.assert_allclose(_upper_tail(counts, sizes, chance), expected, rtol=1e-6, atol=1e-300)


def test_a_chance_of_0_or_1_explains_all_or_nothing():
    groups = np.array(["a", "a", "b"])
    assert above_chance(np.array([True, False, False]), groups, 0.0) == [("a", 1, 2)]
    assert above_chance(np.array([True, True, True]), groups, 1.0) == []
