"""What a threshold buys: ROC and precision-recall of each class against the rest, and answering only the sure cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastcell.stats.bootstrap import NUM_RESAMPLES, bootstrap_statistic, percentile_interval

MOST_POINTS = 1000  # of a drawn curve


class ClassCurve(NamedTuple):
    """One class against the rest, at every threshold that changes anything, from none called to all called.

    Attributes:
        threshold: (T,) probability at or above which a cell is called the class; infinite for the first.
        false_positive_rate, true_positive_rate: (T,) shares of the other cells and of the class's own that are called.
        precision: (T,) share of the called cells that are of the class; 1 where none is called.
        area: under the ROC curve.
        low, high: 95 % bootstrap interval of the area.
        average_precision: sum over thresholds of precision times gain in recall.
        num_positive: cells of the class.
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
    """Accuracy when only the most confident cells are answered, at every threshold or, of many, at 1,000.

    Attributes:
        threshold: (T,) confidence at or above which a cell is answered, falling.
        coverage: (T,) share of the cells that are answered.
        accuracy: (T,) of those.
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
    """Compare one class with the rest; None where all cells or none are of the class.

    Args:
        probabilities: (N,) of the class.
        is_class: (N,) bool, the truth.
        groups: (N,), resampled whole; None resamples cells.
        num_resamples: of the interval.
        seed: of the draws.
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
    """Answer the cells in the order of their confidence; cells of equal confidence together.

    Args:
        probabilities: (N, K).
        labels: (N,) int, true classes.
        groups: (N,), resampled whole; None resamples cells.
        num_resamples: of the interval.
        seed: of the draws.
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
    """The largest share of cells that is answered with at least this accuracy; 0 where no threshold gives it."""
    enough = curve.accuracy >= accuracy
    return float(curve.coverage[enough].max()) if enough.any() else 0.0


def thinned(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """The values (n, ...), or evenly spread ones of them where there are more than `most`; first and last stay."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(np.int64)]


def _ends(falling: np.ndarray) -> np.ndarray:
    """Index of the last of each run of equal values."""
    return np.concatenate([np.flatnonzero(np.diff(falling)), [len(falling) - 1]])


def _area(hits: np.ndarray, alarms: np.ndarray) -> float:
    """Area under the ROC curve of cumulated counts; NaN where a side is empty."""
    total = hits[-1] * alarms[-1]
    return float(((hits[1:] + hits[:-1]) * np.diff(alarms)).sum() / 2 / total) if total else float("nan")
