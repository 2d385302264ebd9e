"""Operating curves of a classifier: ROC and precision-recall per class, and accuracy against coverage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastcell.stats.intervals import Interval, unit_numbers
from fastcell.stats.ranking_intervals import average_precision, roc_area
from fastcell.stats.score_intervals import proportion

MOST_POINTS = 1000  # in a plotted curve
_MOST_COUNTS = 1_000_000  # thresholds x groups at once


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
        average_precision: sum over thresholds of precision times increase in recall.
        num_positive: number of cells of the class.
    """

    threshold: np.ndarray
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    precision: np.ndarray
    area: Interval
    average_precision: Interval
    num_positive: int


class RejectCurve(NamedTuple):
    """Accuracy if only the most confident cells are classified, at every threshold, or at 1,000 if there are more.

    Attributes:
        threshold: (T,) confidence at or above which a cell is classified, in descending order.
        coverage: (T,) share of the cells that are classified.
        accuracy: (T,) accuracy on the classified cells.
        low, high: (T,) 95 % interval of the accuracy at this threshold.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray


def class_curve(probabilities: np.ndarray, is_class: np.ndarray, groups: np.ndarray | None = None) -> ClassCurve | None:
    """Compute the ROC and precision-recall curves of one class against the rest.

    Args:
        probabilities: (N,) probabilities of the class.
        is_class: (N,) bool, True for cells whose true class is this one.
        groups: (N,), groups of the cells for the intervals; None for intervals by cell.

    Returns:
        The curves, or None if all cells or no cells are of the class.
    """
    num_positive = int(is_class.sum())
    if num_positive in (0, len(is_class)):
        return None
    area = roc_area(probabilities, is_class, groups)
    precise = average_precision(probabilities, is_class, groups)
    order = np.argsort(-probabilities, kind="stable")
    ends = _ends(probabilities[order])
    positive = is_class[order]
    hits, alarms = (np.concatenate([[0], np.cumsum(which)[ends]]) for which in (positive, ~positive))
    with np.errstate(invalid="ignore"):
        precision = np.where(hits + alarms > 0, hits / (hits + alarms), 1.0)
    return ClassCurve(
        np.concatenate([[np.inf], probabilities[order][ends]]),
        alarms / (len(order) - num_positive),
        hits / num_positive,
        precision,
        area,
        precise,
        num_positive,
    )


def reject_curve(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> RejectCurve:
    """Compute accuracy against coverage, classifying cells in descending order of confidence.

    Cells of equal confidence are added together.

    Args:
        probabilities: (N, K).
        labels: (N,) int, true classes.
        groups: (N,), groups of the cells for the intervals; None for intervals by cell.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    ends, right = thinned(_ends(confidence[order])), right[order]
    units = np.zeros(len(order), np.int64) if groups is None else unit_numbers(groups)[order]
    low, high = _limits_along(right, units, ends, groups is not None)
    return RejectCurve(confidence[order][ends], (ends + 1) / len(order), np.cumsum(right)[ends] / (ends + 1), low, high)


def _limits_along(
    right: np.ndarray, units: np.ndarray, ends: np.ndarray, grouped: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits (T,) of the share of correctly classified cells up to each end."""
    num = int(units.max()) + 1
    at_once = max(1, _MOST_COUNTS // num)
    hits, cells = np.zeros(num), np.zeros(num)
    low, high = [], []
    starts = np.concatenate([[0], ends[:-1] + 1])
    for first in range(0, len(ends), at_once):
        mine = slice(starts[first], ends[min(first + at_once, len(ends)) - 1] + 1)
        size = min(at_once, len(ends) - first)
        step = np.searchsorted(ends[first : first + size], np.arange(mine.start, mine.stop))
        index = step * num + units[mine]
        new = (np.bincount(index, weight, size * num) for weight in (right[mine], np.ones(len(index))))
        right_of, of = (
            before + np.cumsum(added.reshape(size, num), axis=0)
            for before, added in zip((hits, cells), new, strict=True)
        )
        bounds = proportion(right_of, of, grouped)
        low.append(bounds.low)
        high.append(bounds.high)
        hits, cells = right_of[-1], of[-1]
    return np.concatenate(low), np.concatenate(high)


def coverage_at(curve: RejectCurve, accuracy: float, lower_end: bool = False) -> float:
    """Return the largest coverage with at least this accuracy; 0 if no threshold reaches it.

    Args:
        curve: the curve.
        accuracy: from 0 to 1.
        lower_end: whether the lower end of the interval must reach it, not only the accuracy of these cells.
    """
    enough = (curve.low if lower_end else curve.accuracy) >= accuracy
    return float(curve.coverage[enough].max()) if enough.any() else 0.0


def thinned(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Return (n, ...) values, reduced to `most` evenly spaced ones if there are more; first and last are kept."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(np.int64)]


def _ends(falling: np.ndarray) -> np.ndarray:
    """Return the index of the last element of each run of equal values."""
    return np.concatenate([np.flatnonzero(np.diff(falling)), [len(falling) - 1]])
