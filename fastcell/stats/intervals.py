"""95 % intervals of scores between 0 and 1 that keep their coverage with few cells and with few groups.

A score v with variance V is treated like a share measured on an effective number of independent cells, n = v (1 - v) /
V. Its interval is the exact binomial one (Clopper and Pearson, doi 10.1093/biomet/26.4.404) for v n hits among n cells,
after n has been reduced by Student's t for the number of groups (Korn and Graubard, Survey Methodology 24:193, 1998).

By group, V is the observed spread between groups, corrected for the influence of each group on the mean, with the
degrees of freedom of Bell and McCaffrey (Survey Methodology 28:169, 2002). Two to five groups hardly show their spread.
It is therefore averaged with an assumed spread that has the weight of four further groups, as in the moderated variance
of Smyth (doi 10.2202/1544-6115.1027). V is never below that of independent cells. The limit of the assumed spread, the
second pass at the bounds and the constants below were chosen by simulation; ``benchmarks/intervals.py`` and
``docs/design/intervals.md`` give the coverage.

All functions work on arrays with any leading axes; the last axis is that of the groups.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.stats.proportions import binomial_limits

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
ASSUMED_SD = 0.9
"""Assumed standard deviation of the log odds of a score between groups."""
ASSUMED_DF = 4.0
"""Weight of the assumption, in degrees of freedom."""
ALLOWED = 0.05
"""Level of the one-sided test of the observed spread that limits the assumed spread."""
FEW_GROUPS = 6
"""Number of groups below which intervals mainly depend on the assumption, and no exact test can distinguish two
methods.
"""


class Interval(NamedTuple):
    """A value and its 95 % interval.

    Attributes:
        value: the value; NaN if it is not defined.
        low, high: ends of the interval; NaN if there is none.
        by: unit of variation: ``cell``, ``group``, or ``none`` if there is no interval.
        num_groups: number of groups that hold a cell of the value; 0 without groups.
        note: limitation of the interval, or the reason why there is none; empty if there is no limitation.
    """

    value: float
    low: float
    high: float
    by: str
    num_groups: int
    note: str

    def describe(self) -> str:
        """Return the value and its interval as text, e.g. ``0.912 (0.890 to 0.931)``."""
        if np.isnan(self.low):
            return f"{self.value:.3f} (no interval: {self.note})"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def as_json(self) -> dict[str, float | str | None]:
        """Return value, low, high, by and note as plain types; NaN becomes None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {key: None if np.isnan(number) else number for key, number in numbers.items()} | {
            "by": self.by,
            "note": self.note,
        }


class IntervalArrays(NamedTuple):
    """Values and their intervals, arrays of one shape.

    Attributes:
        value: NaN where the score is not defined.
        low, high: NaN where there is no interval.
        num_groups: int64, number of groups that hold a cell of the score; 0 without groups.
    """

    value: Floats
    low: Floats
    high: Floats
    num_groups: npt.NDArray[np.int64]

    def interval(self, index: int | tuple[int, ...] = (), why_none: str = "no cells") -> Interval:
        """Return one of the intervals.

        Args:
            index: its place in the arrays.
            why_none: note if there is no interval.
        """
        value, low, high = (float(array[index]) for array in (self.value, self.low, self.high))
        num = int(self.num_groups[index])
        if np.isnan(low):
            return Interval(value, low, high, "none", num, why_none)
        return Interval(value, low, high, "group" if num > 1 else "cell", num, group_note(num))


def group_note(num_groups: int) -> str:
    """Return the limitation of an interval for this number of groups; empty for 0 groups, or 6 and more."""
    if num_groups == 1:
        return "1 group only: holds for further cells of this group, says nothing about others"
    if 1 < num_groups < FEW_GROUPS:
        return f"{num_groups} groups only, interval relies on an assumed spread between groups"
    return ""


def no_interval(value: float, note: str) -> Interval:
    """Return a value without interval, and the reason."""
    return Interval(value, np.nan, np.nan, "none", 0, note)


def unit_numbers(groups: np.ndarray) -> npt.NDArray[np.int64]:
    """Number the independent units of cells, from 0: the groups, and each cell that has no group by itself.

    Args:
        groups: (N,) names; an empty text is no group.

    Returns:
        (N,) int64; every number up to the largest occurs.
    """
    names, units = np.unique(groups, return_inverse=True)
    if names.dtype.kind not in "UO" or "" not in names:
        return units.astype(np.int64)
    loose = np.asarray(groups == "", bool)
    units[loose] = len(names) + np.arange(int(loose.sum()))
    return np.unique(units, return_inverse=True)[1].astype(np.int64)


def degrees_of_freedom(share: Floats) -> Floats:
    """Compute the Bell-McCaffrey degrees of freedom of the spread between groups.

    The smaller of those for independent cells and for groups that differ much; G - 1 for G groups of equal size.

    Args:
        share: (..., G), weight of each group; the sum is 1, absent groups have 0, and at least two are above 0.
    """
    rest = 1 - share
    pull = share**2 / rest
    total = pull.sum(-1, keepdims=True)
    own = pull - 2 * share * pull + total * share**2  # diagonal of M' diag(pull) M; M removes the mean

    def satterthwaite(traces: tuple[Floats, Floats, Floats, Floats, Floats]) -> Floats:
        a, b, c, diagonal, squares = (term.sum(-1) for term in traces)
        pulls = total[..., 0]
        return np.asarray(
            diagonal**2 / (squares + pulls**2 * a**2 + 2 * a * c + 2 * b**2 - 4 * pulls * a * b), np.float64
        )

    twice = 2 * own - pull
    of_cells = satterthwaite(  # the variance of a group is 1 / share
        (share, pull, share**3 / rest**2, share / rest - 2 * pull + total * share, twice / rest)
    )
    alike = satterthwaite((share**2, share * pull, pull**2, own, pull * twice))
    return np.minimum(of_cells, alike)


def moderated_variance(
    influence: Floats, share: Floats, cell_variance: Floats, slope: Floats, assumed_sd: float = ASSUMED_SD
) -> tuple[Floats, Floats]:
    """Compute the variance of a score by group, and its degrees of freedom.

    Args:
        influence: (..., G), how much each group moves the score from its value; the sum is 0.
        share: (..., G), weight of each group in the score, see `degrees_of_freedom`.
        cell_variance: (...), variance of the score if all cells were independent.
        slope: (...), change of the score by a small change of the log odds: v (1 - v) for a share v.
        assumed_sd: standard deviation of the log odds between groups that is assumed.
    """
    from scipy import special  # not at the top: predict does without scipy

    df = degrees_of_freedom(share)
    seen = np.maximum((influence**2 / (1 - share)).sum(-1), cell_variance)
    assumed = cell_variance + (slope * assumed_sd) ** 2 * (share**2).sum(-1)
    assumed = np.minimum(assumed, seen * df / (2 * special.gammaincinv(df / 2, ALLOWED)))
    variance = (ASSUMED_DF * assumed + df * seen) / (ASSUMED_DF + df)
    return np.maximum(variance, cell_variance), df + ASSUMED_DF


def score_bounds(
    value: Floats, smooth: Floats, cell_variance: Floats, influence: Floats, share: Floats, grouped: bool
) -> IntervalArrays:
    """Compute the intervals of scores between 0 and 1.

    Args:
        value: (...), scores; NaN gives no interval.
        smooth: (...), the scores with a hit and a miss added, which are never 0 or 1.
        cell_variance: (...), variance of the scores if all cells were independent, above 0.
        influence: (..., G), how much each group moves the score from its value; the sum is 0.
        share: (..., G), weight of each group; the sum is 1; groups with weight 0 are left out.
        grouped: whether the last axis holds groups; otherwise intervals are by cell.
    """
    cells = smooth * (1 - smooth) / cell_variance
    low, high = binomial_limits(value * cells, cells)
    if not grouped:
        return IntervalArrays(value, low, high, np.zeros(value.shape, np.int64))
    num_groups = (share > 0).sum(-1)
    several = (num_groups > 1) & ~np.isnan(value)
    if several.any():
        wide = _limits_by_group(
            value[several], smooth[several], cell_variance[several], cells[several], influence[several], share[several]
        )
        low, high = low.copy(), high.copy()
        low[several] = np.minimum(low[several], wide[0])
        high[several] = np.maximum(high[several], wide[1])
    return IntervalArrays(value, low, high, num_groups)


def interval_of_cells(
    value: float, smooth: float, cell_variance: float, influence: Floats, share: Floats, groups: np.ndarray | None
) -> Interval:
    """Compute the interval of a score from the influence of each cell.

    Args:
        value, smooth, cell_variance: as of `score_bounds`.
        influence: (N,), how much each cell moves the score from its value; the sum is 0.
        share: (N,), weight of each cell; the sum is 1.
        groups: (N,) names, or None for an interval by cell.
    """
    units = np.zeros(len(share), np.int64) if groups is None else unit_numbers(groups)
    return score_bounds(
        np.array(value, np.float64),
        np.array(smooth, np.float64),
        np.array(cell_variance, np.float64),
        np.asarray(np.bincount(units, influence), np.float64),
        np.asarray(np.bincount(units, share), np.float64),
        groups is not None,
    ).interval()


def _limits_by_group(
    value: Floats, smooth: Floats, cell_variance: Floats, cells: Floats, influence: Floats, share: Floats
) -> tuple[Floats, Floats]:
    """Compute the limits for (n,) scores of two or more groups.

    The limits are found twice. At a limit that is nearer to 1/2 than the score, groups differ by more, because the
    spread of their log odds is the same. The effective number is therefore smaller there, by the square root of the
    ratio of v (1 - v).
    """
    from scipy import special  # not at the top: predict does without scipy

    variance, df = moderated_variance(influence, share, cell_variance, smooth * (1 - smooth))
    tail = (1 + LEVEL) / 2
    student = special.stdtrit(np.maximum(cells - 1, 1), tail) / special.stdtrit(df, tail)
    effective = np.minimum(smooth * (1 - smooth) / variance * student**2, cells)

    def fewer(bound: Floats) -> Floats:
        spread = bound * (1 - bound)
        with np.errstate(divide="ignore"):
            ratio = np.sqrt(smooth * (1 - smooth) / spread)
        return effective * np.where(spread > 0, np.minimum(ratio, 1.0), 1.0)

    first = binomial_limits(value * effective, effective)
    below, above = (fewer(bound) for bound in first)
    return binomial_limits(value * below, below)[0], binomial_limits(value * above, above)[1]
