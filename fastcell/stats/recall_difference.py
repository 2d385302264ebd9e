"""Difference of the balanced accuracies of two methods on the same cells, with its interval.

In each class, the difference of the two recalls has the variance of Bonett and Price (doi 10.3102/1076998611411915),
which adds one cell to those that only one method classifies correctly. The variance of the mean over the classes is the
mean of these variances divided by their number. With two or more groups, the spread between groups is corrected for
the influence of each group, and has Student's quantile for the degrees of freedom of Bell and McCaffrey; the wider of
the two intervals counts. No spread between groups is assumed, because two methods that hardly differ, such as a network
and its rounded form, hardly differ between groups either.
``benchmarks/intervals.py`` measures the coverage.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from fastcell.errors import ArgumentError
from fastcell.stats.intervals import (
    FEW_GROUPS,
    LEVEL,
    Floats,
    Interval,
    IntervalArrays,
    degrees_of_freedom,
    unit_numbers,
)


def recall_difference(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None
) -> Interval:
    """Compute the mean recall over the classes of a first method minus that of a second one, with a 95 % interval.

    Args:
        labels: (N,) int, true classes, 0 or more.
        first, second: (N,) int, classes predicted by each method.
        groups: (N,) names of groups, or None. One group is treated as none.

    Raises:
        ArgumentError: there are no cells.
    """
    labels = np.asarray(labels, np.int64)
    if not len(labels):
        raise ArgumentError("labels must hold 1 or more cells, got none. Give the cells of a subset.")
    gain = (np.asarray(first) == labels).astype(np.int64) - (np.asarray(second) == labels)
    names, classes = np.unique(labels, return_inverse=True)
    units = np.zeros(len(labels), np.int64) if groups is None else unit_numbers(np.asarray(groups))
    size = int(units.max()) + 1, len(names)
    place = units * len(names) + classes
    cells, plus, minus = (
        np.bincount(place, weight, size[0] * size[1]).astype(np.float64).reshape(size)
        for weight in (None, gain > 0, gain < 0)
    )
    found = difference_of_recalls(plus, minus, cells, groups is not None).interval()
    num = found.num_groups
    few = f"{num} groups only, interval relies on a normal distribution between groups"
    return found._replace(note=few if 1 < num < FEW_GROUPS else found.note)


def difference_of_recalls(plus: Floats, minus: Floats, cells: Floats, grouped: bool = True) -> IntervalArrays:
    """Compute the difference of two mean recalls from counts.

    Args:
        plus, minus: (..., G, K) cells of each group and class that only the first and only the second method classifies
            correctly.
        cells: (..., G, K) cells; a class without any is left out.
        grouped: whether the last axis but one is that of the groups; otherwise groups are summed.
    """
    total, up, down = (counts.sum(-2) for counts in (cells, plus, minus))
    there = total > 0
    num_classes = np.maximum(there.sum(-1), 1)
    of_class = np.maximum(total, 1)
    ahead, behind = (up + 1) / (total + 2), (down + 1) / (total + 2)
    spread = np.where(there, (ahead + behind - (ahead - behind) ** 2) / (total + 2), 0)
    mean = np.where(there, (up - down) / of_class, 0)
    value = mean.sum(-1) / num_classes
    middle = np.where(there, ahead - behind, 0).sum(-1) / num_classes
    half = special.ndtri((1 + LEVEL) / 2) * np.sqrt(spread.sum(-1)) / num_classes
    num_groups = (cells.sum(-1) > 0).sum(-1) if grouped else np.zeros(value.shape, np.int64)
    moved = ((plus - minus - mean[..., None, :] * cells) / of_class[..., None, :]).sum(-1) / num_classes[..., None]
    several = num_groups > 1
    if several.any():
        share = (cells / of_class[..., None, :]).sum(-1) / num_classes[..., None]
        mine, part = moved[several], share[several]
        free = degrees_of_freedom(part)
        between = (mine**2 / (1 - part)).sum(-1)
        wide = special.stdtrit(free, (1 + LEVEL) / 2) * np.sqrt(between)
        half = np.asarray(half).copy()
        half[several] = np.maximum(half[several], wide)
    low, high = (np.clip(middle + side * half, -1, 1) for side in (-1, 1))
    return IntervalArrays(value, np.minimum(low, value), np.maximum(high, value), np.asarray(num_groups))
