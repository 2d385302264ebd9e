"""Whether a confidence of 90 % is right nine times out of ten, and the temperature that makes it so.

Expected calibration error and temperature scaling as in Guo et al., ICML 2017, "On Calibration of Modern Neural
Networks". Everything works on log probabilities, of which a temperature is a divisor: softmax(log p / T). For a network
trained with the cross entropy that is the same as dividing its logits.
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
    """Cells by confidence, in bins of equal width from 0 to 1.

    Attributes:
        num_cells: (B,) float64, cells (or weights) in each bin.
        confidence: (B,) float64, mean confidence in it, NaN where it is empty.
        accuracy: (B,) float64, share that is right, likewise.
    """

    num_cells: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean over cells of the gap between a bin's accuracy and its confidence."""
        gap = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((self.num_cells * gap).sum() / self.num_cells.sum())


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """(N, K) float64 logarithms; probabilities of 0, as float32 rounds them, count as 1e-30."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST_PROBABILITY))


def rescale(log_p: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, K) float64 of log probabilities (N, K) at a temperature above 0."""
    scaled = log_p / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)


def negative_log_likelihood(log_p: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean over cells of minus the log probability of the true class."""
    scaled = log_p / temperature
    top = scaled.max(axis=1)
    total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    return float((total - scaled[np.arange(len(labels)), labels]).mean())


def fit_temperature(log_p: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of least negative log likelihood, from 0.05 to 20.

    Args:
        log_p: (N, K) log probabilities of cells that neither trained the network nor test the result.
        labels: (N,) int, true classes.

    Raises:
        ArgumentError: no cell.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        raise ArgumentError("cells to fit a temperature must be at least 1, got 0. Pack with a validation part.")
    # In 1 / T the likelihood is concave (a log-linear model), so in log T there is one optimum.
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
    """Sort cells into bins by the probability of their likeliest class.

    Args:
        probabilities: (N, K).
        labels: (N,) int, true classes.
        bins: B.
        weight: (N,) how often each cell counts; None for once.
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
    """Expected calibration error of two sets of probabilities of the same cells, and the second minus the first.

    The error is a mean of absolute gaps, which chance alone makes larger, in a resample once more than in the sample.
    So the upper end is the value plus what the resamples reach above their own mean, and the lower end is that of the
    basic bootstrap, twice the value minus their upper percentile; it is 0 where a calibrated network would show as much
    (`error_by_chance`). Of the difference both ends are about the resamples' mean.

    Args:
        before, after: (N, K) probabilities.
        labels: (N,) int, true classes.
        groups: (N,), resampled whole; None resamples cells.
        num_resamples: number of draws.
        seed: of the draws.
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
    """The error that a calibrated network shows on as many cells of the same confidences: mean and 97.5th percentile.

    Args:
        probabilities: (N, K).
        num_resamples: number of draws of which calls are right.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    place, confidence, _ = _called(probabilities, np.zeros(len(probabilities), int), BINS)
    draws = [
        _binned(place, confidence, rng.random(len(confidence)) < confidence, BINS, None).error
        for _ in range(num_resamples)
    ]
    return float(np.mean(draws)), float(percentile_interval(draws)[1])


def _called(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) each: bin, confidence and whether the call is right."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # a bin holds its upper edge
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
