"""Calibration of predicted probabilities: expected calibration error and temperature scaling.

Both follow Guo et al., ICML 2017, "On Calibration of Modern Neural Networks". All functions work on log probabilities,
which a temperature divides: softmax(log p / T). For a network trained with cross entropy this equals dividing its
logits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastcell.errors import ArgumentError
from fastcell.stats.bootstrap import NUM_RESAMPLES, Interval, bootstrap_statistic, percentile_interval

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
_LEAST_PROBABILITY = 1e-30


class Reliability(NamedTuple):
    """Cells binned by confidence, in bins of equal width from 0 to 1.

    Attributes:
        num_cells: (B,) float64, number of cells (or sum of weights) in each bin.
        confidence: (B,) float64, mean confidence in each bin; NaN if the bin is empty.
        accuracy: (B,) float64, share of correct predictions in each bin; NaN if the bin is empty.
    """

    num_cells: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean over cells of the gap between accuracy and confidence of their bin."""
        gap = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((self.num_cells * gap).sum() / self.num_cells.sum())


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return (N, K) float64 logarithms; probabilities below 1e-30, such as a float32 rounded to 0, count as 1e-30."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST_PROBABILITY))


def rescale(log_p: np.ndarray, temperature: float) -> np.ndarray:
    """Return (N, K) float64 probabilities for log probabilities (N, K) at a temperature above 0."""
    scaled = log_p / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)


def negative_log_likelihood(log_p: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean over cells of the negative log probability of the true class."""
    scaled = log_p / temperature
    top = scaled.max(axis=1)
    total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    return float((total - scaled[np.arange(len(labels)), labels]).mean())


def fit_temperature(log_p: np.ndarray, labels: np.ndarray) -> float:
    """Fit the temperature, from 0.05 to 20, that minimises the negative log likelihood.

    Args:
        log_p: (N, K) log probabilities of cells that are in neither the training nor the test subset.
        labels: (N,) int, true classes.

    Raises:
        ArgumentError: no cells are given.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        raise ArgumentError("cells to fit a temperature must be at least 1, got 0. Pack with a validation part.")
    # The likelihood is concave in 1 / T (a log-linear model), so it has one optimum in log T.
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(log_p, labels, np.exp(log_t)),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS, weight: np.ndarray | None = None
) -> Reliability:
    """Bin cells by the probability of their most likely class.

    Args:
        probabilities: (N, K).
        labels: (N,) int, true classes.
        bins: B.
        weight: (N,), number of times that each cell counts; None counts each cell once.
    """
    return _binned(*_called(probabilities, labels, bins), bins, weight)


def error_intervals(
    before: np.ndarray,
    after: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[Interval, Interval, Interval]:
    """Compute the expected calibration errors of two sets of probabilities of the same cells, and their difference.

    The calibration error is a mean of absolute gaps. Random variation increases it, and a resample adds random
    variation to that of the sample. The interval therefore corrects for this bias. Its upper end is the value plus the
    distance of the resamples' upper percentile from their mean. Its lower end is that of the basic bootstrap, twice the
    value minus the upper percentile. The lower end is 0 if a calibrated network would show as large an error
    (`error_by_chance`). For the difference, the percentile interval is shifted so that the resamples' mean falls on the
    value.

    Args:
        before, after: (N, K) probabilities.
        labels: (N,) int, true classes.
        groups: (N,), groups to resample as a whole; None resamples cells.
        num_resamples: number of resamples.
        seed: seed of the draws.

    Returns:
        Error of `before`, error of `after`, and the second minus the first, each with its 95 % interval.
    """
    called = [_called(probabilities, labels, BINS) for probabilities in (before, after)]
    values = [_binned(*columns, BINS, None).error for columns in called]
    draws = bootstrap_statistic(
        lambda weight: [_binned(*columns, BINS, weight).error for columns in called],
        len(labels),
        groups,
        num_resamples,
        seed,
    )
    _, high = percentile_interval(draws)
    upper = values + (high - draws.mean(axis=0))
    by_chance = [error_by_chance(probabilities, num_resamples, seed)[1] for probabilities in (before, after)]
    lower = np.where(np.array(values) <= by_chance, 0, np.maximum(0, 2 * np.array(values) - high))
    change = draws[:, 1] - draws[:, 0]
    around = values[1] - values[0] + np.array(percentile_interval(change)) - change.mean()
    before_error, after_error = (Interval(values[i], float(lower[i]), float(upper[i])) for i in range(2))
    return before_error, after_error, Interval(values[1] - values[0], float(around[0]), float(around[1]))


def error_by_chance(
    probabilities: np.ndarray, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Compute the error that a calibrated network shows on the same number of cells with the same confidences.

    Args:
        probabilities: (N, K).
        num_resamples: number of simulations; each draws at random which predictions are correct.
        seed: seed of the draws.

    Returns:
        Mean and 97.5th percentile of the error.
    """
    rng = np.random.default_rng(seed)
    place, confidence, _ = _called(probabilities, np.zeros(len(probabilities), int), BINS)
    draws = [
        _binned(place, confidence, rng.random(len(confidence)) < confidence, BINS, None).error
        for _ in range(num_resamples)
    ]
    return float(np.mean(draws)), float(percentile_interval(draws)[1])


def _called(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the bin, the confidence and whether the prediction is correct, (N,) each."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # a bin includes its upper edge
    return place, confidence, probabilities.argmax(axis=1) == labels


def _binned(
    place: np.ndarray, confidence: np.ndarray, right: np.ndarray, bins: int, weight: np.ndarray | None
) -> Reliability:
    weight = np.ones(len(place)) if weight is None else weight.astype(np.float64)
    num, sums, hits = (
        np.bincount(place, values, minlength=bins) for values in (weight, weight * confidence, weight * right)
    )
    with np.errstate(invalid="ignore"):
        return Reliability(num, sums / num, hits / num)
