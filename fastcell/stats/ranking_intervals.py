"""Intervals of scores of a ranking: area under the ROC curve and average precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcell.errors import ArgumentError
from fastcell.stats.intervals import Floats, Interval, interval_of_cells, no_interval

FEW_POSITIVES = 6
"""Number of cells in the smaller class below which an area is treated as measured on no more than these cells."""
LEAST_POSITIVES = 3
"""Number of cells of the class below which average precision has no interval."""


def roc_area(scores: np.ndarray, positive: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """Compute the area under the ROC curve: the probability that a positive cell scores above a negative one.

    Ties count half. By cell, the variance is the larger of DeLong's (doi 10.2307/2531595) and that of Newcombe's method
    5 (doi 10.1002/sim.2324), which is above 0 even if the classes are separated completely. By group it is that of
    Obuchowski (doi 10.2307/2533958).

    Args:
        scores: (N,) finite scores.
        positive: (N,) bool, True for cells of the class.
        groups: (N,) names, or None.

    Raises:
        ArgumentError: a score is NaN.
    """
    scores, positive = _checked(scores, positive)
    ups, downs = np.sort(scores[positive]), np.sort(scores[~positive])
    m, n = len(ups), len(downs)
    if m == 0 or n == 0:
        return no_interval(np.nan, "cells of one kind only")
    place = np.empty(len(scores))  # share of the other class that the cell is on the right side of
    for mine, other in ((positive, downs), (~positive, ups)):
        below = np.searchsorted(other, scores[mine], "left") + np.searchsorted(other, scores[mine], "right")
        place[mine] = below / (2 * len(other))
    place[~positive] = 1 - place[~positive]
    value, fewer = float(place[positive].mean()), min(m, n)
    smooth = (value * fewer + 1) / (fewer + 2)
    middle = (m + n) / 2 - 1
    newcombe = 1 + middle * ((1 - smooth) / (2 - smooth) + smooth / (1 + smooth))
    variance = smooth * (1 - smooth) / (m * n) * newcombe
    if fewer > 1:
        variance = max(variance, float(place[positive].var(ddof=1) / m + place[~positive].var(ddof=1) / n))
    if fewer < FEW_POSITIVES:
        variance = max(variance, smooth * (1 - smooth) / fewer)
    weight = np.where(positive, 1 / m, 1 / n)
    return interval_of_cells(value, smooth, variance, weight * (place - value), weight / 2, groups)


def average_precision(scores: np.ndarray, positive: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """Compute the average precision: sum over thresholds of precision times increase in recall.

    By cell, the effective number of cells is that of the positive cells (the binomial interval of Boyd, Eng and Page,
    doi 10.1007/978-3-642-40994-3_29), or less if the influences of the cells vary more. By group, the influences are
    summed.

    Args:
        scores: (N,) finite scores.
        positive: (N,) bool, True for cells of the class.
        groups: (N,) names, or None.

    Raises:
        ArgumentError: a score is NaN.
    """
    scores, positive = _checked(scores, positive)
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return no_interval(np.nan, "cells of one kind only")
    order = np.argsort(-scores, kind="stable")
    up = positive[order]
    falling = scores[order]
    first = np.concatenate([[0], np.flatnonzero(np.diff(falling)) + 1])  # start of each run of equal scores
    run = np.cumsum(np.diff(falling, prepend=np.nan) != 0) - 1
    last = np.concatenate([first[1:], [len(up)]]) - 1
    rank = (last + 1)[run]
    precision = np.cumsum(up)[last][run] / rank
    value = float(precision[up].sum() / m)
    if m < LEAST_POSITIVES:
        return no_interval(value, f"{m} {'cell' if m == 1 else 'cells'} of the class")
    # What one more cell does to the precision at its own and all lower thresholds, where there are positive cells.
    gain, loss = (
        np.cumsum((up * change)[::-1])[::-1][first][run] for change in ((1 - precision) / rank, precision / rank)
    )
    influence = np.empty(len(up))
    influence[order] = np.where(up, precision - value + gain, -loss) / m
    smooth = (value * m + 1) / (m + 2)
    variance = max(smooth * (1 - smooth) / m, float((influence**2).sum()))
    return interval_of_cells(value, smooth, variance, influence, np.where(positive, 0.5 / m, 0.5 / n), groups)


def _checked(scores: np.ndarray, positive: np.ndarray) -> tuple[Floats, npt.NDArray[np.bool_]]:
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    if np.isnan(scores).any():
        raise ArgumentError(
            f"scores must be numbers, got NaN for {int(np.isnan(scores).sum()):,} cells. Leave these cells out."
        )
    return scores, positive
