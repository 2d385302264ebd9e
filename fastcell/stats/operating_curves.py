"""Operating curves of a classifier: ROC and precision-recall per class, and accuracy against coverage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastcell.stats.bootstrap import NUM_RESAMPLES, bootstrap_statistic, percentile_interval

MOST_POINTS = 1000  # in a plotted curve


class ClassCurve(NamedTuple):
    """ROC and precision-recall curves of one class against the rest.

    The curves have a point for each threshold at which the predictions change, from no positive predictions to all
    positive.

    Attributes:
        threshold: (T,) probability at or above which a cell is predicted positive; infinite for the first point.
        false_positive_rate, true_positive_rate: (T,) share of the negative and of the positive cells that are predicted
            positive.
        precision: (T,) share of true positives among positive predictions; 1 if there are none.
        area: area under the ROC curve.
        low, high: 95 % bootstrap interval of the area.
        average_precision: sum over thresholds of precision times increase in recall.
        num_positive: number of cells of the class.
    """

    threshold: np.ndarray
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    precision: np.ndarray
    area: float
    low: float
    high: float
    average_precision: float
    num_positive: int


class RejectCurve(NamedTuple):
    """Accuracy if only the most confident cells are classified, at every threshold, or at 1,000 if there are more.

    Attributes:
        threshold: (T,) confidence at or above which a cell is classified, in descending order.
        coverage: (T,) share of the cells that are classified.
        accuracy: (T,) accuracy on the classified cells.
        low, high: (T,) 95 % bootstrap interval of the accuracy at this threshold.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray


def class_curve(
    probabilities: np.ndarray,
    is_class: np.ndarray,
    groups: np.ndarray | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> ClassCurve | None:
    """Compute the ROC and precision-recall curves of one class against the rest.

    Args:
        probabilities: (N,) probabilities of the class.
        is_class: (N,) bool, True for cells whose true class is this one.
        groups: (N,), groups to resample as a whole; None resamples cells.
        num_resamples: number of resamples for the interval.
        seed: seed of the draws.

    Returns:
        The curves, or None if all cells or no cells are of the class.
    """
    num_positive = int(is_class.sum())
    if num_positive in (0, len(is_class)):
        return None
    order = np.argsort(-probabilities, kind="stable")
    ends = _ends(probabilities[order])
    positive = is_class[order]

    def along(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hits = np.cumsum(weight * positive)[ends]
        alarms = np.cumsum(weight * ~positive)[ends]
        return np.concatenate([[0], hits]), np.concatenate([[0], alarms])

    hits, alarms = along(np.ones(len(order)))
    recall = hits / num_positive
    with np.errstate(invalid="ignore"):
        precision = np.where(hits + alarms > 0, hits / (hits + alarms), 1.0)
    areas = bootstrap_statistic(lambda weight: _area(*along(weight[order])), len(order), groups, num_resamples, seed)
    low, high = (float(value) for value in percentile_interval(areas))
    return ClassCurve(
        np.concatenate([[np.inf], probabilities[order][ends]]),
        alarms / (len(order) - num_positive),
        recall,
        precision,
        _area(hits, alarms),
        low,
        high,
        float((np.diff(recall) * precision[1:]).sum()),
        num_positive,
    )


def reject_curve(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> RejectCurve:
    """Compute accuracy against coverage, classifying cells in descending order of confidence.

    Cells of equal confidence are added together.

    Args:
        probabilities: (N, K).
        labels: (N,) int, true classes.
        groups: (N,), groups to resample as a whole; None resamples cells.
        num_resamples: number of resamples for the interval.
        seed: seed of the draws.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    ends, right = thinned(_ends(confidence[order])), right[order]
    accuracy = np.cumsum(right)[ends] / (ends + 1)

    def accuracies(weight: np.ndarray) -> np.ndarray:
        drawn = weight[order]
        with np.errstate(invalid="ignore"):
            return (np.cumsum(drawn * right)[ends] / np.cumsum(drawn)[ends]).astype(np.float32)

    low, high = percentile_interval(bootstrap_statistic(accuracies, len(order), groups, num_resamples, seed))
    return RejectCurve(confidence[order][ends], (ends + 1) / len(order), accuracy, low, high)


def coverage_at(curve: RejectCurve, accuracy: float) -> float:
    """Return the largest coverage with at least this accuracy; 0 if no threshold reaches it."""
    enough = curve.accuracy >= accuracy
    return float(curve.coverage[enough].max()) if enough.any() else 0.0


def thinned(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Return (n, ...) values, reduced to `most` evenly spaced ones if there are more; first and last are kept."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(np.int64)]


def _ends(falling: np.ndarray) -> np.ndarray:
    """Return the index of the last element of each run of equal values."""
    return np.concatenate([np.flatnonzero(np.diff(falling)), [len(falling) - 1]])


def _area(hits: np.ndarray, alarms: np.ndarray) -> float:
    """Return the area under the ROC curve of cumulative counts; NaN if there are no positives or no negatives."""
    total = hits[-1] * alarms[-1]
    return float(((hits[1:] + hits[:-1]) * np.diff(alarms)).sum() / 2 / total) if total else float("nan")
