"""Bootstrap: draws of a test set from itself, by cell or by whole group, and the intervals that they give.

Cells of one recording are not independent, so whole groups are drawn where there are groups. Statistics of a confusion
matrix are resampled as matrices (`resample_confusion`), means as sums (`mean_interval`), and any other statistic by how
often each cell counts in each resample (`bootstrap_statistic`). Rates are drawn from their posterior
(`draw_rates`, `draw_shares`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.stats.confusion import confusion_matrix, confusion_per_group

NUM_RESAMPLES = 1000
"""Resamples of a statistic that is computed anew for each."""
NUM_SCORE_RESAMPLES = 2000
"""Resamples of a confusion matrix."""
NUM_MEAN_RESAMPLES = 10_000
TAIL = 2.5
"""Percent of the draws beyond each end of a 95 % interval."""
SCORE_TAIL = 50 * (1 - 0.95)
"""The same with a rounding error in the 16th digit: kept where scores have always been given with it."""


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def describe(self) -> str:
        """E.g. ``0.912 (0.890 to 0.931)``."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def usable_groups(groups: np.ndarray | None) -> np.ndarray | None:
    """Return the groups, or None where there are fewer than two: one says nothing about how groups differ."""
    return None if groups is None or len(np.unique(groups)) < 2 else groups


def resampled_unit(groups: np.ndarray | None) -> str:
    """Return what is resampled: ``group`` where there are two groups or more, else ``cell``."""
    return "cell" if usable_groups(groups) is None else "group"


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


def bootstrap_statistic(
    statistic: Callable[[np.ndarray], npt.ArrayLike],
    num_cells: int,
    groups: np.ndarray | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Compute a statistic of each resample: (R, ...) of its shape and dtype.

    Args:
        statistic: takes (N,) int64, how often each cell counts.
        num_cells: N.
        groups: (N,), resampled whole where there are two or more; None resamples cells.
        num_resamples: R, at least 1.
        seed: of the draws.
    """
    draws = resample_weights(num_cells, usable_groups(groups), num_resamples, seed)
    return np.stack([np.asarray(statistic(weight)) for weight in draws])


def resample_table(table: npt.NDArray[np.int64], num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (R, ...) int64 tables of counts as resampling their cells would: the multinomial distribution.

    Args:
        table: (...) int64, counts of at least one cell.
        num_resamples: R.
        rng: of the draws.
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
    """Resample the test cells: (R, K, K) confusion matrices.

    Whole groups are drawn with replacement where there are groups; single cells otherwise (a multinomial draw of the
    confusion matrix, which is the same thing).

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
        return resample_table(confusion_matrix(labels, predicted, num_classes), num_resamples, rng)
    tables = confusion_per_group(labels, predicted, groups[known], num_classes)
    num_groups = len(tables)
    kinds, counts = np.unique(tables.reshape(num_groups, -1), axis=0, return_counts=True)  # groups alike are one kind
    times = rng.multinomial(num_groups, counts / num_groups, size=num_resamples)
    return (times @ kinds).reshape(num_resamples, num_classes, num_classes)


def percentile_interval(draws: npt.ArrayLike, tail: float = TAIL) -> tuple[np.ndarray, np.ndarray]:
    """Compute the percentile interval of bootstrap draws (R, ...) over the first axis: two arrays (...).

    Args:
        draws: NaN ones are left out; the interval of nothing but NaN is NaN.
        tail: percent of the draws beyond each end, 2.5 for an interval of 95 %.
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
    values: np.ndarray, units: np.ndarray | None = None, num_resamples: int = NUM_MEAN_RESAMPLES, seed: int = 0
) -> Interval:
    """Compute the mean of `values` with its 95 % interval.

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
    low, high = percentile_interval((draws @ kinds[0]) / (draws @ kinds[1]), SCORE_TAIL)
    return Interval(float(values.mean()), float(low), float(high))


def draw_rates(
    tables: npt.NDArray[np.int64], by_group: bool, num_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw (R, K, K) matrices of rates as likely as the one that was counted; rows sum to 1.

    Each row is drawn from the Dirichlet distribution of its counts with half a cell more for each class (Jeffreys'
    prior), but not more than two in a row: an error that no test cell has shown may exist. By group, these are weighted
    at random first (Bayesian bootstrap; Rubin, Annals of Statistics 9:130, 1981).

    Args:
        tables: (G, K, K) int64, called class (column) of the cells of each class (row), by group.
        by_group: whether groups are weighted.
        num_draws: R.
        rng: of the draws.
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
    """Draw (R, K) shares as likely as those of (K,) int64 `counts`: Dirichlet of the counts plus 1/2 (Jeffreys)."""
    return rng.dirichlet(counts + 0.5, num_draws)
