"""Difference of the balanced accuracies of two methods on the same cells, with its interval.

In each class, the difference of the two recalls has the variance of Bonett and Price (doi 10.3102/1076998611411915),
which adds one cell to those that only one method classifies correctly. The variance of the mean over the classes is the
mean of these variances divided by their number. With two or more groups, the variance between groups is used if it is
larger, with Student's quantile for the number of groups minus one.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from fastcell.errors import ArgumentError
from fastcell.stats.intervals import LEVEL, Interval, group_note, unit_numbers


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
    cells = np.bincount(classes).astype(np.float64)
    plus, minus = (np.bincount(classes, np.maximum(sign * gain, 0)) for sign in (1, -1))
    up, down = (plus + 1) / (cells + 2), (minus + 1) / (cells + 2)
    variance = float(((up + down - (up - down) ** 2) / (cells + 2)).sum()) / len(names) ** 2
    value = float(((plus - minus) / cells).mean())
    middle, half = float((up - down).mean()), float(special.ndtri((1 + LEVEL) / 2)) * variance**0.5
    num_groups = 0
    if groups is not None:
        units = unit_numbers(np.asarray(groups))
        num_groups = int(units.max()) + 1
        if num_groups > 1:
            mean = (plus - minus) / cells
            moved = np.bincount(units, (gain - mean[classes]) / cells[classes]) / len(names)
            between = float((moved**2).sum()) * num_groups / (num_groups - 1)
            wide = float(special.stdtrit(num_groups - 1, (1 + LEVEL) / 2)) * between**0.5
            half = max(half, wide)
    low, high = (float(np.clip(middle + side * half, -1, 1)) for side in (-1, 1))
    by = "group" if num_groups > 1 else "cell"
    return Interval(value, min(low, value), max(high, value), by, num_groups, group_note(num_groups))
