"""Calibration of predicted probabilities: expected calibration error and temperature scaling.

Both follow Guo et al., ICML 2017, "On Calibration of Modern Neural Networks". All functions work on log probabilities,
which a temperature divides: softmax(log p / T). For a network trained with cross entropy this equals dividing its
logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastcell.errors import ArgumentError
from fastcell.stats.intervals import Interval, interval_of_cells, no_interval
from fastcell.stats.proportions import binomial_limits

BINS = 15
NUM_SIMULATIONS = 1000
COLDEST, HOTTEST = 0.05, 20.0
LEAST_PROBABILITY = 1e-30


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
    """Return (N, K) float64 logarithms; probabilities below 1e-30 are replaced by 1e-30."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST_PROBABILITY))


def rescale(log_p: np.ndarray, temperature: float) -> np.ndarray:
    """Return (N, K) float64 probabilities for log probabilities (N, K) at a temperature above 0."""
    scaled = log_p / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)


def negative_log_likelihood(log_p: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean over cells of the negative log probability of the true class."""
    return float(_losses(log_p, labels, temperature).mean())


def _losses(log_p: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    scaled = log_p / temperature
    top = scaled.max(axis=1)
    total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    return np.asarray(total - scaled[np.arange(len(labels)), labels])


def fit_temperature(log_p: np.ndarray, labels: np.ndarray) -> float:
    """Fit the temperature, from 0.05 to 20, that minimises the negative log likelihood.

    A temperature below 1, which raises confidences, is fitted with one more wrong answer than there is. Without it, a
    network that is right on all cells would get the lowest temperature, and every answer a confidence of 1. The wrong
    answer is spread over the cells in proportion to their probability of being wrong. Platt (Advances in Large Margin
    Classifiers, 1999) smooths the labels of a sigmoid for the same reason.

    Args:
        log_p: (N, K) log probabilities of cells that are in neither the training nor the test subset.
        labels: (N,) int, true classes.

    Raises:
        ArgumentError: no cells are given.
    """
    if not len(labels):
        raise ArgumentError("cells to fit a temperature must be at least 1, got 0. Pack with a validation subset.")
    if log_p.shape[1] < 2:
        return 1.0
    likeliest = _best_temperature(lambda t: negative_log_likelihood(log_p, labels, t))
    if likeliest >= 1:
        return likeliest
    others = log_p.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    wrong, weight = others.argmax(axis=1), rescale(others.max(axis=1)[None], 1.0)[0] / len(labels)

    def with_one_wrong(temperature: float) -> float:
        added = float(weight @ _losses(log_p, wrong, temperature))
        return negative_log_likelihood(log_p, labels, temperature) + added

    return min(1.0, _best_temperature(with_one_wrong))


def _best_temperature(cost: Callable[[float], float]) -> float:
    from scipy.optimize import minimize_scalar

    # The likelihood is concave in 1 / T (a log-linear model), so it has one optimum in log T.
    found = minimize_scalar(
        lambda log_t: cost(float(np.exp(log_t))),
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


def error_interval(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """Compute the expected calibration error and its interval.

    The error is a sum over bins of absolute gaps, which random variation increases. Its true value is that of the same
    bins with infinitely many cells. The upper end is that of a score whose variance is the mean squared gap of the
    cells. The lower end is the value minus the 97.5 % quantile of the sum by chance at these accuracies, at least 0. By
    group, both ends are wider. The interval is conservative: 0 is inside unless the network is clearly miscalibrated.

    Args:
        probabilities: (N, K).
        labels: (N,) int, true classes.
        groups: (N,) names, or None.
    """
    num = len(labels)
    if not num:
        return no_interval(np.nan, "no cells")
    place, confidence, right = _called(probabilities, labels, BINS)
    binned = _binned(place, confidence, right, BINS, None)
    value, gap = binned.error, right - confidence
    sign = np.sign(np.nan_to_num(binned.accuracy - binned.confidence))[place]
    smooth = (value * num + 1) / (num + 2)
    variance = max(float((gap**2).sum() + 1) / (num + 1), smooth * (1 - smooth)) / num
    influence, share = (sign * gap - value) / num, np.full(num, 1 / num)
    found = interval_of_cells(value, smooth, variance, influence, share, groups)
    by_cell = binomial_limits(value * smooth * (1 - smooth) / variance, smooth * (1 - smooth) / variance)
    wider = float(by_cell[0]) - found.low  # what the groups add below
    return found._replace(low=max(0.0, value - _error_by_noise(binned, place, confidence) - wider))


def _error_by_noise(binned: Reliability, place: np.ndarray, confidence: np.ndarray) -> float:
    """Return the 97.5th percentile of the sum over bins of absolute noise of the accuracy (normal approximation)."""
    hits = np.nan_to_num(binned.accuracy * binned.num_cells)
    smooth = (hits + 1) / (binned.num_cells + 2)
    calibrated = np.bincount(place, confidence * (1 - confidence), minlength=len(hits))
    variance = np.maximum(binned.num_cells * smooth * (1 - smooth), calibrated) / len(place) ** 2
    return float(np.sqrt(2 / np.pi * variance).sum() + 1.96 * np.sqrt((1 - 2 / np.pi) * variance.sum()))


def error_by_chance(
    probabilities: np.ndarray, num_simulations: int = NUM_SIMULATIONS, seed: int = 0
) -> tuple[float, float]:
    """Compute the error that a calibrated network shows on the same number of cells with the same confidences.

    Args:
        probabilities: (N, K).
        num_simulations: number of simulations; each draws at random which predictions are correct.
        seed: seed of the draws.

    Returns:
        Mean and 97.5th percentile of the error.
    """
    rng = np.random.default_rng(seed)
    place, confidence, _ = _called(probabilities, np.zeros(len(probabilities), int), BINS)
    draws = [
        _binned(place, confidence, rng.random(len(confidence)) < confidence, BINS, None).error
        for _ in range(num_simulations)
    ]
    return float(np.mean(draws)), float(np.quantile(draws, 0.975))


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
