"""Populations of groups for `intervals.py`: their accuracies, their numbers of cells, and what intervals cover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from fastcell.stats.intervals import FEW_GROUPS, Interval, IntervalArrays

Floats = npt.NDArray[np.float64]
SIZES = ("5", "20", "60", "200", "1000", "5..1000", "one of 1000, others of 20")
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
"""Points and weights that integrate over a normal distribution."""


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
        assumed: True if the interval rests on an assumed spread between groups.
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


def center(truth: Floats | float, deviation: float) -> Floats:
    """Return the mean of normal log odds with this deviation for which the mean probability is `truth`."""
    grid = np.linspace(-14, 14, 8001)
    means = special.expit(grid[:, None] + deviation * NODES) @ WEIGHTS / WEIGHTS.sum()
    return np.interp(truth, means, grid)


def draw_sizes(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw the numbers of cells of (sets, groups)."""
    if kind.isdigit():
        return np.full(shape, int(kind))
    if ".." in kind:
        low, high = np.log([int(word) for word in kind.split("..")])
        return np.exp(rng.uniform(low, high, shape)).astype(np.int64)
    sizes = np.full(shape, 20)
    sizes[:, 0] = 1000
    return sizes


def covered(bounds: IntervalArrays, truth: Floats | float) -> tuple[float, float, float]:
    """Return coverage, median width, and share of sets without interval."""
    known = ~np.isnan(bounds.low)
    inside = (bounds.low <= truth) & (truth <= bounds.high)
    return float(inside[known].mean()), float(np.median((bounds.high - bounds.low)[known])), float(1 - known.mean())


def setting(score: str, groups: int, cells: str, deviation: float, truth: float, bounds: IntervalArrays) -> Coverage:
    """Return the row of a simulated setting."""
    sets = len(bounds.value)
    few = 1 < groups < FEW_GROUPS
    return Coverage(score, "interval", groups, cells, deviation, truth, sets, *covered(bounds, truth), few)


def stacked(intervals: list[Interval]) -> IntervalArrays:
    """Return `IntervalArrays` of single intervals."""
    value, low, high = (np.array([getattr(one, name) for one in intervals]) for name in ("value", "low", "high"))
    return IntervalArrays(value, low, high, np.array([one.num_groups for one in intervals]))
