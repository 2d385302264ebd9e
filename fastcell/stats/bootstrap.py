"""Bootstrap of statistics that a confusion matrix does not hold: how often each cell counts in each resample."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastcell.stats.confusion import confusion_matrix, confusion_per_group

NUM_RESAMPLES = 1000


def usable_groups(groups: np.ndarray | None) -> np.ndarray | None:
    """The groups, or None where there are fewer than two: one group says nothing about how groups differ."""
    return None if groups is None or len(np.unique(groups)) < 2 else groups


def resample_weights(
    num_cells: int, groups: np.ndarray | None = None, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield (N,) int64 for each resample, how often each cell is drawn.

    Args:
        num_cells: N.
        groups: (N,), whole groups are drawn with replacement; None draws single cells.
        num_resamples: how many.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        for _ in range(num_resamples):
            yield np.bincount(rng.integers(num_cells, size=num_cells), minlength=num_cells)
        return
    names, member = np.unique(groups, return_inverse=True)
    for _ in range(num_resamples):
        yield np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[member]


def resample_confusion(
    labels: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    groups: np.ndarray | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Resample the test cells: (R, K, K) confusion matrices.

    Whole groups are drawn with replacement where there are groups, since cells of one recording are not independent;
    single cells otherwise (a multinomial draw of the confusion matrix, which is the same thing).

    Args:
        labels: (N,) int true classes, -1 left out.
        predicted: (N,) int called classes.
        num_classes: K.
        groups: (N,) of any comparable type, or None.
        num_resamples: R.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    known = labels >= 0
    labels, predicted = labels[known], predicted[known]
    if groups is None:
        table = confusion_matrix(labels, predicted, num_classes).ravel()
        draws = rng.multinomial(table.sum(), table / table.sum(), size=num_resamples)
        return draws.reshape(num_resamples, num_classes, num_classes)
    tables = confusion_per_group(labels, predicted, groups[known], num_classes)
    num_groups = len(tables)
    kinds, counts = np.unique(tables.reshape(num_groups, -1), axis=0, return_counts=True)  # groups alike are one kind
    times = rng.multinomial(num_groups, counts / num_groups, size=num_resamples)
    return (times @ kinds).reshape(num_resamples, num_classes, num_classes)


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of bootstrap ``values`` (R, ...) over the first axis; NaN resamples are left out."""
    tail = 50 * (1 - level)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        low, high = np.nanpercentile(values, [tail, 100 - tail], axis=0)
    return low, high


def paired_difference(
    labels: np.ndarray,
    predicted: np.ndarray,
    other: np.ndarray,
    groups: np.ndarray | None = None,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Accuracy of ``predicted`` minus accuracy of ``other`` on the same cells: value, and its 95 % bootstrap interval.

    Both are resampled together, by groups where given, so an interval above 0 means better, not lucky.

    Args:
        labels: (N,) int true classes.
        predicted: (N,) int, the first classifier's classes.
        other: (N,) int, the second's.
        groups: (N,) or None.
        num_resamples: number of draws.
        seed: of the draws.
    """
    return mean_interval((predicted == labels).astype(np.int64) - (other == labels), groups, num_resamples, seed)


def mean_interval(
    values: np.ndarray, units: np.ndarray | None = None, num_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of `values`, and its 95 % bootstrap interval.

    Args:
        values: (N,) numbers.
        units: (N,) what is resampled as a whole: the group of a value, or the cell that several values are of; None
            where each value stands for itself.
        num_resamples: number of draws.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    sums: np.ndarray
    sizes: np.ndarray
    if units is None:
        sums, sizes = values.astype(np.float64), np.ones(len(values))
    else:
        _, member = np.unique(units, return_inverse=True)
        sums, sizes = np.bincount(member, weights=values), np.bincount(member, weights=np.ones(len(values)))
    kinds, counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)  # units alike are one kind
    draws = rng.multinomial(len(sums), counts / len(sums), size=num_resamples)
    low, high = percentile_interval((draws @ kinds[0]) / (draws @ kinds[1]))
    return float(values.mean()), float(low), float(high)


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float
