"""Calibration of distributions whose error is known, and temperatures that are found again."""

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.stats.calibration import (
    error_by_chance,
    error_interval,
    fit_temperature,
    log_probabilities,
    negative_log_likelihood,
    reliability,
    rescale,
)


def two_class(confidence, right):
    """(N, 2) probabilities and (N,) labels: called 0 with `confidence`, right where asked for."""
    confidence = np.asarray(confidence, float)
    return np.stack([confidence, 1 - confidence], axis=1), np.where(right, 0, 1)


def drawn(temperature, num=20_000, seed=0):
    """Log probabilities that are too sure by `temperature`, and labels drawn from the right ones."""
    rng = np.random.default_rng(seed)
    right = log_probabilities(rescale(rng.normal(0, 2, (num, 4)), 1.0))
    chances = rescale(right, 1.0)
    labels = (rng.random(num)[:, None] > chances.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    return right * temperature, labels


def test_error_by_hand():
    # 10 cells at 0.9, 7 of them right: a gap of 0.2; 30 at 0.62, 21 right: a gap of 0.08
    probabilities, labels = two_class([0.9] * 10 + [0.62] * 30, [True] * 7 + [False] * 3 + [True] * 21 + [False] * 9)
    binned = reliability(probabilities, labels)
    assert binned.error == pytest.approx((10 * 0.2 + 30 * 0.08) / 40)
    full = binned.num_cells > 0
    assert binned.num_cells[full].tolist() == [30, 10]
    np.testing.assert_allclose(binned.accuracy[full], [0.7, 0.7])
    np.testing.assert_allclose(binned.confidence[full], [0.62, 0.9])
    assert np.isnan(binned.accuracy[~full]).all()


def test_a_bin_holds_its_upper_edge():
    probabilities, labels = two_class([1.0, 0.8, 0.800001], [True] * 3)
    assert np.flatnonzero(reliability(probabilities, labels, bins=5).num_cells).tolist() == [3, 4]


def test_a_calibrated_classifier_has_little_error_and_a_sure_one_much():
    log_chances, labels = drawn(1.0)
    assert reliability(rescale(log_chances, 1.0), labels).error < 0.015  # chance alone gives 0.008 or so
    assert reliability(rescale(log_chances, 0.25), labels).error > 0.1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_planted_temperature_is_found(temperature):
    log_chances, labels = drawn(temperature)
    found = fit_temperature(log_chances, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    assert reliability(rescale(log_chances, found), labels).error < 0.015
    at_best = negative_log_likelihood(log_chances, labels, found)
    assert at_best <= min(negative_log_likelihood(log_chances, labels, found * f) for f in (0.97, 1.03))


def test_a_network_without_errors_is_as_sure_as_one_error_more_allows():
    """60 cells at 0.9, all right: with one wrong answer more the likeliest confidence is 60 / 61."""
    probabilities, labels = two_class([0.9] * 60, [True] * 60)
    log_chances = log_probabilities(probabilities)
    found = fit_temperature(log_chances, labels)
    assert rescale(log_chances, found)[0, 0] == pytest.approx(60 / 61, abs=1e-4)


def test_an_added_error_never_lowers_a_confidence():
    """30 cells at 1 - 1e-9, all right: nothing shows that they are too sure, nor that they may be surer."""
    probabilities, labels = two_class([1 - 1e-9] * 30, [True] * 30)
    assert fit_temperature(log_probabilities(probabilities), labels) == 1.0
    assert fit_temperature(np.zeros((5, 1)), np.zeros(5, int)) == 1.0  # one class


def test_likelihood_and_rescaling_agree_with_the_definition():
    log_chances = np.log(np.array([[0.5, 0.25, 0.25]]))
    np.testing.assert_allclose(rescale(log_chances, 0.5), [[4 / 6, 1 / 6, 1 / 6]])
    assert negative_log_likelihood(log_chances, np.array([1]), 0.5) == pytest.approx(np.log(6))
    assert log_probabilities(np.array([[0.0, 1.0]])).min() == pytest.approx(np.log(1e-30))
    with pytest.raises(ArgumentError, match="at least 1, got 0"):
        fit_temperature(np.empty((0, 2)), np.empty(0, int))


def test_intervals_hold_the_value_and_know_which_is_better():
    log_chances, labels = drawn(3.0, num=2000)
    before, after = (error_interval(rescale(log_chances, temperature), labels) for temperature in (1.0, 3.0))
    assert before.low <= before.value <= before.high
    assert 0 == after.low <= after.value <= after.high
    assert after.high < before.low


@pytest.mark.parametrize(("num", "groups"), [(1, None), (3, None), (50, None), (60, 3)])
def test_errors_are_covered(num, groups):
    """500 sets of a network whose log odds are twice too large, groups shifted by 0.5."""
    rng = np.random.default_rng(0)

    def drawn_cells(num_cells, shift):
        odds = np.abs(rng.normal(0, 2.5, num_cells))
        sure = 1 / (1 + np.exp(-odds))
        return two_class(sure, rng.random(num_cells) < 1 / (1 + np.exp(-odds / 2 - shift)))

    truth = reliability(*drawn_cells(1_000_000, 0.5 * rng.standard_normal(1_000_000) * (groups is not None))).error
    covered = 0
    for _ in range(500):
        names = None if groups is None else np.repeat(np.arange(groups), num // groups)
        shift = 0.0 if names is None else 0.5 * rng.standard_normal(groups)[names]
        found = error_interval(*drawn_cells(num, shift), names)
        covered += found.low <= truth <= found.high
    assert covered >= 0.93 * 500


def test_an_error_of_no_cells():
    assert error_interval(np.empty((0, 2)), np.empty(0, int)).note == "no cells"


def test_chance_alone_gives_an_error_that_falls_with_the_number_of_cells():
    log_chances, labels = drawn(1.0, num=8000)
    probabilities = rescale(log_chances, 1.0)
    mean, high = error_by_chance(probabilities, 100)
    assert mean < high < 3 * mean
    assert reliability(probabilities, labels).error < 1.5 * high
    few = error_by_chance(probabilities[:500], 100)[0]
    assert few == pytest.approx(4 * mean, rel=0.25)  # as one over the root of the number
    within = error_interval(probabilities[:500], labels[:500])
    assert within.low == 0


def test_intervals_by_group_are_wider_where_groups_differ():
    probabilities, labels = two_class([0.8] * 400, np.arange(400) < 300)
    groups = np.repeat(np.arange(8), 50)
    by_cell = error_interval(probabilities, labels)
    by_group = error_interval(probabilities, labels, groups)
    assert by_group.high - by_group.low > 2 * (by_cell.high - by_cell.low)
