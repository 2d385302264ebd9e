"""Bootstrap resampling of a test set, by cell or by group, and the resulting confidence intervals.

Cells of one recording are not independent. Whole groups are therefore resampled if the cells have groups. Statistics of
a confusion matrix are computed on resampled matrices (`resample_confusion`), and means on resampled sums
(`mean_interval`). Any other statistic is computed from the number of times that each cell occurs in a resample
(`bootstrap_statistic`). Rates and class shares are drawn from their posterior distribution (`draw_rates`,
`draw_shares`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.stats.confusion import confusion_matrix, confusion_per_group

NUM_RESAMPLES = 1000
"""Number of resamples for a statistic that is recomputed for each resample."""
NUM_SCORE_RESAMPLES = 2000
"""Number of resamples of a confusion matrix."""
NUM_MEAN_RESAMPLES = 10_000
TAIL = 2.5
"""Percentage of the draws beyond each end of a 95 % interval."""
SCORE_TAIL = 50 * (1 - 0.95)
"""`TAIL` with a rounding error in the 16th digit. Intervals of scores keep it so that their values do not change."""


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def describe(self) -> str:
        """Return the value and its interval as text, e.g. ``0.912 (0.890 to 0.931)``."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def usable_groups(groups: np.ndarray | None) -> np.ndarray | None:
    """Return the groups, or None if there are fewer than two: one group cannot show how groups differ."""
    return None if groups is None or len(np.unique(groups)) < 2 else groups


def resampled_unit(groups: np.ndarray | None) -> str:
    """Return the resampled unit: ``group`` for two or more groups, else ``cell``."""
    return "cell" if usable_groups(groups) is None else "group"


def resample_weights(
    num_cells: int, groups: np.ndarray | None = None, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield for each resample how often each cell is drawn, (N,) int64.

    Args:
        num_cells: N.
        groups: (N,), groups to draw as a whole, with replacement; None draws single cells.
        num_resamples: number of resamples.
        seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        for _ in range(num_resamples):
            yield np.bincount(rng.integers(num_cells, size=num_cells), minlength=num_cells)
        return
    names, member = np.unique(groups, return_inverse=True)
    for _ in range(num_resamples):
        yield np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[member]


def bootstrap_statistic(
    statistic: Callable[[np.ndarray], npt.ArrayLike],
    num_cells: int,
    groups: np.ndarray | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Compute a statistic on bootstrap resamples.

    Args:
        statistic: function of (N,) int64 counts, which state how often each cell occurs in the resample.
        num_cells: N.
        groups: (N,), groups to resample as a whole if there are two or more; None resamples cells.
        num_resamples: R, at least 1.
        seed: seed of the draws.

    Returns:
        (R, ...), shape and dtype of the statistic after the first axis.
    """
    draws = resample_weights(num_cells, usable_groups(groups), num_resamples, seed)
    return np.stack([np.asarray(statistic(weight)) for weight in draws])


def resample_table(table: npt.NDArray[np.int64], num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw tables of counts from the multinomial distribution, which is equivalent to resampling the cells.

    Args:
        table: (...) int64, counts of at least one cell.
        num_resamples: R.
        rng: generator for the draws.

    Returns:
        (R, ...) int64.
    """
    total = table.sum()
    return rng.multinomial(total, table.ravel() / total, size=num_resamples).reshape(num_resamples, *table.shape)


def resample_confusion(
    labels: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    groups: np.ndarray | None = None,
    num_resamples: int = NUM_SCORE_RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Resample the test cells and return their confusion matrices.

    Whole groups are drawn with replacement if groups are given. Otherwise the confusion matrix is drawn from the
    multinomial distribution, which is equivalent to drawing single cells.

    Args:
        labels: (N,) int, true classes; cells with -1 are ignored.
        predicted: (N,) int, predicted classes.
        num_classes: K.
        groups: (N,) of any comparable type, or None.
        num_resamples: R.
        seed: seed of the draws.

    Returns:
        (R, K, K) int64, row = true class, column = predicted class.
    """
    rng = np.random.default_rng(seed)
    known = labels >= 0
    labels, predicted = labels[known], predicted[known]
    if groups is None:
        return resample_table(confusion_matrix(labels, predicted, num_classes), num_resamples, rng)
    tables = confusion_per_group(labels, predicted, groups[known], num_classes)
    num_groups = len(tables)
    kinds, counts = np.unique(tables.reshape(num_groups, -1), axis=0, return_counts=True)  # merge identical groups
    times = rng.multinomial(num_groups, counts / num_groups, size=num_resamples)
    return (times @ kinds).reshape(num_resamples, num_classes, num_classes)


def percentile_interval(draws: npt.ArrayLike, tail: float = TAIL) -> tuple[np.ndarray, np.ndarray]:
    """Compute the percentile interval of bootstrap draws over the first axis.

    Args:
        draws: (R, ...); NaN is ignored. If all draws are NaN, the interval is NaN.
        tail: percentage of the draws beyond each end, 2.5 for a 95 % interval.

    Returns:
        Lower and upper ends, (...) each.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        low, high = np.nanpercentile(np.asarray(draws), [tail, 100 - tail], axis=0)
    return low, high


def paired_difference(
    labels: np.ndarray,
    predicted: np.ndarray,
    other: np.ndarray,
    groups: np.ndarray | None = None,
    num_resamples: int = NUM_MEAN_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Compute the accuracy of ``predicted`` minus that of ``other`` on the same cells, with its 95 % interval.

    Both classifiers are evaluated on the same resamples, drawn by group if groups are given. An interval above 0
    therefore means that the first classifier is better beyond random variation of the test set.

    Args:
        labels: (N,) int, true classes.
        predicted: (N,) int, classes predicted by the first classifier.
        other: (N,) int, classes predicted by the second classifier.
        groups: (N,) or None.
        num_resamples: number of resamples.
        seed: seed of the draws.
    """
    return mean_interval((predicted == labels).astype(np.int64) - (other == labels), groups, num_resamples, seed)


def mean_interval(
    values: np.ndarray, units: np.ndarray | None = None, num_resamples: int = NUM_MEAN_RESAMPLES, seed: int = 0
) -> Interval:
    """Compute the mean of `values` with its 95 % interval.

    Args:
        values: (N,) numbers.
        units: (N,), units to resample as a whole: the group of each value, or its cell if a cell has several values;
            None resamples single values.
        num_resamples: number of resamples.
        seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    sums: np.ndarray
    sizes: np.ndarray
    if units is None:
        sums, sizes = values.astype(np.float64), np.ones(len(values))
    else:
        _, member = np.unique(units, return_inverse=True)
        sums, sizes = np.bincount(member, weights=values), np.bincount(member, weights=np.ones(len(values)))
    kinds, counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)  # merge identical units
    draws = rng.multinomial(len(sums), counts / len(sums), size=num_resamples)
    low, high = percentile_interval((draws @ kinds[0]) / (draws @ kinds[1]), SCORE_TAIL)
    return Interval(float(values.mean()), float(low), float(high))


def draw_rates(
    tables: npt.NDArray[np.int64], by_group: bool, num_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw confusion rate matrices from their posterior distribution.

    Each row is drawn from the Dirichlet distribution of its counts plus a pseudo-count of 1/2 per class (Jeffreys'
    prior), or of 2 / K for more than four classes, so that a row gets at most two. The pseudo-counts allow for errors
    that no test cell has shown. With `by_group`, the groups first get random weights (Bayesian bootstrap; Rubin, Annals
    of Statistics 9:130, 1981).

    Args:
        tables: (G, K, K) int64, confusion matrix of each group: row = true class, column = predicted class.
        by_group: if True, weight the groups at random.
        num_draws: R.
        rng: generator for the draws.

    Returns:
        (R, K, K) float64; rows sum to 1.
    """
    summed = tables.sum(axis=0)
    counts = np.broadcast_to(summed.astype(float), (num_draws, *summed.shape))
    tiny = np.finfo(float).tiny
    if by_group:
        weights = rng.dirichlet(np.ones(len(tables)), num_draws)
        weighted = (weights @ tables.reshape(len(tables), -1)).reshape(counts.shape)
        totals = weighted.sum(axis=2, keepdims=True)
        counts = counts.sum(axis=2, keepdims=True) * weighted / np.maximum(totals, tiny)
    gamma = rng.standard_gamma(counts + min(0.5, 2 / summed.shape[-1]))
    rates: npt.NDArray[np.float64] = gamma / np.maximum(gamma.sum(axis=2, keepdims=True), tiny)
    return rates


def draw_shares(counts: npt.NDArray[np.int64], num_draws: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw (R, K) class shares for (K,) int64 `counts` from the Dirichlet distribution of counts + 1/2 (Jeffreys)."""
    return rng.dirichlet(counts + 0.5, num_draws)
