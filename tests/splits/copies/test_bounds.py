"""Bounds of a copy are learnt from copies, and relaxed where strangers stay far below them."""

import numpy as np
import pytest

from fastcell.splits.copies.bounds import FALSE_PAIRS, LENIENT_CORRELATION, Bounds, learn_bounds, relax
from fastcell.splits.copies.registration import Fit


def test_bounds_never_fall_below_the_fixed_ones():
    assert learn_bounds([]) == Bounds()
    assert learn_bounds([Fit(0.975, 0.5, 1.0, 1.0)] * 100) == Bounds()
    learnt = learn_bounds([Fit(0.999, 0.998, 1.0, 1.0)] * 100)
    assert learnt.correlation == pytest.approx(0.9985)
    assert learnt.detail == pytest.approx(0.997)


def test_a_bound_is_met_in_all_of_its_parts():
    good = Fit(0.995, 0.98, 1.0, 0.9)
    assert Bounds().met_by(good)
    for change in ({"correlation": 0.98}, {"detail": 0.96}, {"cell": 0.4}):
        assert not Bounds().met_by(good._replace(**change))
    assert not Bounds(0.999).met_by(good)


def strangers(num, seed, middle=1.5, spread=0.2):
    """Details of pairs of different cells, normal in Fisher's z."""
    return np.tanh(np.random.default_rng(seed).normal(middle, spread, num))


def test_relaxed_bounds_let_few_strangers_through():
    strict = Bounds(0.997, 0.995)
    false = []
    for seed in range(100):
        details = strangers(5_000, seed)
        relaxed = relax(strict, details)
        assert relaxed.correlation == LENIENT_CORRELATION
        assert np.tanh(1.5 + 3.7 * 0.2) < relaxed.detail < strict.detail
        false.append((details >= relaxed.detail).sum())
    assert np.mean(false) <= FALSE_PAIRS


def test_tails_heavier_than_normal_are_allowed_for():
    draws = np.random.default_rng(0).exponential(0.08, (100, 5_000))
    false = [(row >= relax(Bounds(0.997, 0.9995), row).detail).sum() for row in np.tanh(1.5 + draws)]
    assert 0.2 * FALSE_PAIRS <= np.mean(false) <= 2 * FALSE_PAIRS


def test_copies_among_the_pairs_hardly_move_the_bounds():
    strict, details = Bounds(0.997, 0.995), strangers(5_000, 0)
    alone = relax(strict, details)
    assert relax(strict, np.append(details, np.full(500, 0.999))) == alone  # found by the strict bounds
    some = relax(strict, np.append(details, np.linspace(0.991, 0.9945, 50)))  # saved again by strong compression
    assert some.detail == pytest.approx(alone.detail, abs=1e-4)


@pytest.mark.parametrize("details", [[], strangers(200, 0), strangers(5_000, 0, 2.6)])
def test_bounds_stay_strict_with_few_pairs_or_similar_cells(details):
    strict = Bounds(0.997, 0.995)
    assert relax(strict, details) == strict


def test_bounds_of_odd_pairs():
    assert relax(Bounds(), np.full(400, -1.0)).detail == 0.97  # nothing of the cell overlaps in any pair
    assert relax(Bounds(0.997, 0.995), np.full(400, 0.98)) == Bounds(LENIENT_CORRELATION, pytest.approx(0.98))
