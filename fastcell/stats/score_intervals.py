"""Intervals of scores that are computed from counts: shares, F-score, balanced accuracy.

The counts have any leading axes; the last axis of the counts is that of the groups. With `grouped` false, the groups
are summed and the intervals are by cell. `fastcell.stats.intervals` describes the method.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcell.errors import ArgumentError
from fastcell.stats.intervals import IntervalArrays, score_bounds


def proportion(hits: npt.ArrayLike, cells: npt.ArrayLike, grouped: bool = True) -> IntervalArrays:
    """Compute the share of hits among cells: accuracy, recall (cells of the class), precision (cells predicted as the
    class).

    The share is that of all cells: each group weighs as many cells as it has. The interval is for the mean of this
    share over further groups of such sizes.

    Args:
        hits: (..., G) hits of each group; they need not be whole numbers.
        cells: (..., G) cells of each group.
        grouped: whether the last axis holds groups.

    Returns:
        (...) shares and intervals; NaN where there are no cells.

    Raises:
        ArgumentError: a count is negative or not finite, or there are more hits than cells.
    """
    x, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(cells, np.float64))
    if not (np.isfinite(n).all() and (x >= 0).all() and (x <= n * (1 + 1e-12)).all()):
        raise ArgumentError("hits must be at least 0 and at most the number of cells, got others. Check the counts.")
    total, right = n.sum(-1), x.sum(-1)
    at_least = np.maximum(total, 1e-300)
    value = np.where(total > 0, right / at_least, np.nan)
    smooth = (right + 1) / (total + 2)
    share = n / at_least[..., None]
    influence = (x - np.nan_to_num(value)[..., None] * n) / at_least[..., None]
    return score_bounds(value, smooth, smooth * (1 - smooth) / at_least, influence, share, grouped)


def f_score(hits: npt.ArrayLike, support: npt.ArrayLike, called: npt.ArrayLike, grouped: bool = True) -> IntervalArrays:
    """Compute F = 2 TP / (2 TP + FP + FN) of a class.

    F is 2 J / (1 + J) with J = TP / (TP + FP + FN), a share among the cells that belong to the class or are predicted
    as this class. F increases with J, so the limits of J give those of F exactly.

    Args:
        hits: (..., G) number of cells of the class that are predicted as this class (TP).
        support: (..., G) number of cells of the class.
        called: (..., G) number of cells predicted as the class.
        grouped: whether the last axis holds groups.
    """
    x = np.asarray(hits, np.float64)
    share = proportion(x, np.asarray(support) + np.asarray(called) - x, grouped)
    value, low, high = (2 * bound / (1 + bound) for bound in share[:3])
    return IntervalArrays(value, low, high, share.num_groups)


def mean_recall(tables: npt.ArrayLike, grouped: bool = True) -> IntervalArrays:
    """Compute the mean recall over the classes that occur.

    Args:
        tables: (..., G, K, K) confusion matrices of the groups; row = true class, column = predicted class.
        grouped: whether the axis before the matrices holds groups.
    """
    counts = np.asarray(tables, np.float64)
    cells, hits = counts.sum(-1), np.diagonal(counts, axis1=-2, axis2=-1)
    support, right = cells.sum(-2), hits.sum(-2)
    there = support > 0
    num_classes = there.sum(-1)
    at_least, classes = np.maximum(support, 1e-300), np.maximum(num_classes, 1)
    recall = np.where(there, right / at_least, 0)
    smooth = np.where(there, (right + 1) / (support + 2), 0)
    variance = np.where(there, smooth * (1 - smooth) / at_least, 0).sum(-1) / classes**2
    influence = ((hits - recall[..., None, :] * cells) / at_least[..., None, :]).sum(-1) / classes[..., None]
    share = (cells / at_least[..., None, :]).sum(-1) / classes[..., None]
    value = np.where(num_classes > 0, recall.sum(-1) / classes, np.nan)
    middle = np.where(num_classes > 0, smooth.sum(-1) / classes, 0.5)
    return score_bounds(value, middle, np.where(num_classes > 0, variance, 1.0), influence, share, grouped)


def one_vs_rest_accuracy(
    hits: npt.ArrayLike, cells: npt.ArrayLike, num_classes: int, grouped: bool = True
) -> IntervalArrays:
    """Compute the mean over K classes of (TP + TN) / N, which is 1 - 2 (1 - accuracy) / K.

    Args:
        hits: (..., G) cells classified correctly.
        cells: (..., G) cells.
        num_classes: K.
        grouped: whether the last axis holds groups.
    """
    accuracy = proportion(hits, cells, grouped)
    value, low, high = (1 - 2 * (1 - bound) / num_classes for bound in accuracy[:3])
    return IntervalArrays(value, low, high, accuracy.num_groups)
