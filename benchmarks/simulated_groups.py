"""Populations of groups for `intervals.py`: their accuracies, their numbers of cells, and what intervals cover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from fastcell.stats.intervals import FEW_GROUPS, IntervalArrays

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
SIZES = ("5", "20", "60", "200", "1000", "5..1000", "one of 1000, others of 20")
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
"""Points and weights that integrate over a normal distribution."""
FALSE_RATE = 0.04
"""Mean share of other cells that are called the class."""
BASE = np.array([[0.9, 0.06, 0.03, 0.01], [0.08, 0.85, 0.05, 0.02], [0.02, 0.05, 0.92, 0.01], [0.1, 0.1, 0.1, 0.7]])
"""Typical confusions of four classes, rows = true class."""


@dataclass
class Coverage:
    """One setting.

    Attributes:
        score: what is estimated.
        method: ``interval``, or ``percentile bootstrap``, which it replaced.
        groups: number of groups; 0 by cell.
        cells: cells of a group, or of all by cell.
        deviation: standard deviation of the log odds between groups.
        truth: the value to be covered; None where there are several.
        sets: simulated sets.
        coverage: share of intervals that contain the truth; for verdicts, share of right verdicts.
        width: median width of the intervals.
        without: share of sets without interval (the score is not defined or too few cells).
        assumed: True if the interval relies on an assumed spread between groups.
    """

    score: str
    method: str
    groups: int
    cells: str
    deviation: float
    truth: float | None
    sets: int
    coverage: float
    width: float
    without: float = 0.0
    assumed: bool = False


def center(truth, deviation):
    """Return the mean of normal log odds with this deviation for which the mean probability is `truth`."""
    grid = np.linspace(-14, 14, 8001)
    means = special.expit(grid[:, None] + deviation * NODES) @ WEIGHTS / WEIGHTS.sum()
    return np.interp(truth, means, grid)


def draw_sizes(kind, shape, rng):
    """Draw the numbers of cells of (sets, groups)."""
    if kind.isdigit():
        return np.full(shape, int(kind))
    if ".." in kind:
        low, high = np.log([int(word) for word in kind.split("..")])
        return np.exp(rng.uniform(low, high, shape)).astype(np.int64)
    sizes = np.full(shape, 20)
    sizes[:, 0] = 1000
    return sizes


def draw_hits(kind, shape, deviation, truth, rng):
    """Draw hits and cells of (sets, groups) for a mean accuracy."""
    cells = draw_sizes(kind, shape, rng)
    odds = center(truth, deviation) + deviation * rng.standard_normal(shape)
    return rng.binomial(cells, special.expit(odds)), cells


def draw_two_classes(kind, shape, prevalence, recall, deviation, rng):
    """Draw hits, cells of the class, false alarms, and cells of (sets, groups); half of the spread is shared."""
    cells = draw_sizes(kind, shape, rng)
    support = rng.binomial(cells, prevalence)
    shared = np.sqrt(0.5) * rng.standard_normal(shape)

    def rate(mean, sign):
        own = np.sqrt(0.5) * rng.standard_normal(shape)
        return special.expit(center(mean, deviation) + deviation * (sign * shared + own))

    hits = rng.binomial(support, rate(recall, 1))
    alarms = rng.binomial(cells - support, rate(FALSE_RATE, -1))
    return hits, support, alarms, cells


def gap_of(area, shift):
    """Return the gap between two normal classes with this ROC area if their means differ by `shift` between groups."""
    return float(special.ndtri(area) * np.sqrt(2) * np.sqrt(1 + shift**2))


def draw_ranked(groups, ups, downs, area, shift, rng):
    """Draw the values of one set: normal, classes shifted from group to group.

    Args:
        groups: number of groups; 0 for no groups.
        ups, downs: cells of the class and other cells in each group.
        area: ROC area.
        shift: standard deviation of the means of both classes between groups.
        rng: of the draws.

    Returns:
        (N,) values, (N,) cells of the class, (N,) group of each cell; None without groups.
    """
    times = max(groups, 1)
    positive = np.tile(np.arange(ups + downs) < ups, times)
    moved = np.repeat(rng.standard_normal((times, 2)) * shift, [ups, downs], axis=1).ravel()
    values = np.where(positive, gap_of(area, shift), 0.0) + moved + rng.standard_normal(len(positive))
    return values, positive, np.repeat(np.arange(times), ups + downs) if groups else None


def draw_pairs(kind, shape, shared, own, means, rng):
    """Draw cells of two methods whose errors go together.

    Args:
        kind: numbers of cells, as for `draw_sizes`.
        shape: sets, groups.
        shared, own: standard deviations of the log odds between groups, of both methods and of each.
        means: mean accuracies of the methods.
        rng: of the draws.

    Returns:
        (sets, groups, 4) cells that both, the first, the second, and none call right; (sets, groups) cells.
    """
    cells = draw_sizes(kind, shape, rng)
    return calls_of_pair(cells, shared, own, means, rng), cells


def calls_of_pair(cells, shared, own, means, rng, alike=0.5):
    """Return the cells (..., 4) that both, the first, the second, and none of two methods call right.

    Args:
        cells: (...) cells of each group.
        shared, own, means, rng: as of `draw_pairs`.
        alike: from 0, errors of the methods are independent, to 1, the better one is right wherever the other is.
    """
    together = shared * rng.standard_normal(cells.shape)
    deviation = float(np.hypot(shared, own))
    rates = [
        special.expit(center(mean, deviation) + together + own * rng.standard_normal(cells.shape)) for mean in means
    ]
    both = np.minimum(*rates) * alike + (1 - alike) * rates[0] * rates[1]
    four = np.stack([both, rates[0] - both, rates[1] - both, 1 - rates[0] - rates[1] + both], axis=-1).clip(0, 1)
    return rng.multinomial(cells, four / four.sum(-1, keepdims=True))


def draw_recording(groups, deviation, mixture, rng):
    """Draw confusion matrices (groups, K, K) of test recordings, and the calls (K,) of 1,000 cells of a new one."""

    def confusions(num):
        p = BASE * np.exp(deviation * rng.standard_normal((num, *BASE.shape)))
        return np.asarray(p / p.sum(2, keepdims=True), np.float64)

    tables = rng.multinomial(240 // groups, confusions(groups))
    return tables, rng.multinomial(rng.multinomial(1000, mixture), confusions(1)[0]).sum(0)


def covered(bounds, truth):
    """Return coverage, median width, and share of sets without interval."""
    known = ~np.isnan(bounds.low)
    inside = (bounds.low <= truth) & (truth <= bounds.high)
    return float(inside[known].mean()), float(np.median((bounds.high - bounds.low)[known])), float(1 - known.mean())


def setting(score, groups, cells, deviation, truth, bounds):
    """Return the row of a simulated setting."""
    sets = len(bounds.value)
    few = 1 < groups < FEW_GROUPS
    return Coverage(score, "interval", groups, cells, deviation, truth, sets, *covered(bounds, truth), few)


def stacked(intervals):
    """Return `IntervalArrays` of single intervals."""
    value, low, high = (np.array([getattr(one, name) for one in intervals]) for name in ("value", "low", "high"))
    return IntervalArrays(value, low, high, np.array([one.num_groups for one in intervals]))
