"""Two methods on the same cells: difference of their accuracies, its interval, and an exact test.

The test is a sign-flip permutation over groups: if the methods are equally good, the difference in each group could
equally have had the opposite sign (Fisher's randomisation test for pairs). Over cells it is McNemar's exact test. The
interval by cell is that of Bonett and Price (doi 10.3102/1076998611411915). By group it is computed from the intervals
of the two accuracies and the correlation of their errors, as in Newcombe (doi
10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C) and Zou and Donner (doi 10.1002/sim.3095).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from fastcell.errors import ArgumentError
from fastcell.stats.intervals import (
    FEW_GROUPS,
    LEVEL,
    Floats,
    Interval,
    IntervalArrays,
    moderated_variance,
    unit_numbers,
)
from fastcell.stats.score_intervals import proportion

SIGNIFICANT = 0.05
ALTHOUGH = ", although the interval excludes 0"
"""Addition to a verdict without significance if the interval does not contain 0."""
NUM_FLIPS = 20_000
"""Number of random flips if exact enumeration would take too long."""
_MOST_STEPS = 50_000_000
_FLIPS_AT_ONCE = 4_000_000
_COIN = np.array([0.5, 0.5])


@dataclass(frozen=True)
class FlipTest:
    """Result of `sign_flip`.

    Attributes:
        p: two-sided p.
        least_p: smallest p that is possible with this number of differing units.
        num_units: number of units.
        num_differ: number of units in which the two differ.
        error: standard error of p; 0 if it is exact.
    """

    p: float
    least_p: float
    num_units: int
    num_differ: int
    error: float


@dataclass(frozen=True)
class Comparison:
    """Accuracy of a first method minus that of a second one on the same cells.

    Attributes:
        difference: the difference and its interval.
        test: exact test of no difference.
    """

    difference: Interval
    test: FlipTest

    @property
    def unit(self) -> str:
        """Unit of the test: ``group`` or ``cell``."""
        return "group" if self.difference.num_groups > 1 else "cell"

    def verdict(
        self, first: str = "the first is better", second: str = "the second is better", unit: str = "group"
    ) -> str:
        """Return the conclusion in words.

        Args:
            first: text if the first method is better.
            second: text if the second method is better.
            unit: word for a group.
        """
        test = self.test
        units = f"{test.num_units:,} {unit if self.unit == 'group' else 'cell'}{'s' * (test.num_units != 1)}"
        although = "" if self.difference.low <= 0 <= self.difference.high else ALTHOUGH
        if test.least_p > SIGNIFICANT:
            if test.num_units < FEW_GROUPS:
                return f"cannot tell with {units}{although}"
            return f"cannot tell with {units}: {test.num_differ} differ, {FEW_GROUPS} are needed{although}"
        only = "; for cells of this one group only" if self.difference.num_groups == 1 else ""
        if test.p > SIGNIFICANT:
            return f"may be chance (p = {test.p:.2g}){although}{only}"
        unsure = "; the size of the difference is uncertain" * (self.difference.low <= 0 <= self.difference.high)
        return f"{first if self.difference.value > 0 else second} (p = {test.p:.2g}){unsure}{only}"


def sign_flip(sums: npt.ArrayLike, seed: int = 0) -> FlipTest:
    """Test whether the sum of differences is 0 by flipping the sign of each of them.

    The distribution of the sum over all signs is computed exactly, by convolution of the distributions of equal
    differences. Only if that would take more than some seconds, random flips are drawn, and p has a standard error.

    Args:
        sums: (G,) whole numbers, the difference of each unit.
        seed: seed of random flips.

    Returns:
        The test; p is 1 if no unit differs.
    """
    every = np.abs(np.asarray(sums, np.int64))
    observed = abs(int(np.asarray(sums, np.int64).sum()))
    sizes, counts = np.unique(every[every > 0], return_counts=True)
    num = int(counts.sum())
    if not num:
        return FlipTest(1.0, 1.0, every.size, 0, 0.0)
    sizes = sizes // np.gcd.reduce(sizes)
    observed //= int(np.gcd.reduce(every[every > 0]))
    least = 2.0 ** (1 - num) if num < 1000 else 0.0
    total = int(sizes @ counts)
    if len(sizes) > 1 and len(sizes) * total > _MOST_STEPS:
        return _random_flips(np.repeat(sizes, counts), observed, every.size, seed)
    # The number of flips of k equal differences is binomial: the sum is total - 2 x (flipped sum).
    flipped = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        if count == 1:
            flipped = _spread(flipped, _COIN, size)
            continue
        flips = np.arange(count + 1)
        chances = np.exp(
            special.gammaln(count + 1)
            - special.gammaln(flips + 1)
            - special.gammaln(count - flips + 1)
            - count * np.log(2)
        )
        flipped = _spread(flipped, chances, size)
    values = total - 2 * np.arange(len(flipped))
    p = float(flipped[np.abs(values) >= observed].sum())
    return FlipTest(min(max(p, least), 1.0), least, every.size, num, 0.0)


def _spread(found: Floats, chances: Floats, size: int) -> Floats:
    """Return the distribution of a sum after adding `size` times a number with the given chances."""
    if len(chances) * len(found) > _MOST_STEPS:
        from scipy.signal import fftconvolve

        wide = np.zeros((len(chances) - 1) * size + 1)
        wide[::size] = chances
        return np.maximum(fftconvolve(found, wide), 0)
    out = np.zeros(len(found) + (len(chances) - 1) * size)
    for number, chance in enumerate(chances.tolist()):
        out[number * size : number * size + len(found)] += chance * found
    return out


def _random_flips(sizes: npt.NDArray[np.int64], observed: int, num_units: int, seed: int) -> FlipTest:
    rng = np.random.default_rng(seed)
    hits, left = 0, NUM_FLIPS
    while left:
        now = min(left, max(1, _FLIPS_AT_ONCE // len(sizes)))
        signs = rng.integers(0, 2, (now, len(sizes)), np.int8)
        hits += int((np.abs(2 * (signs @ sizes) - sizes.sum()) >= observed).sum())
        left -= now
    p = (hits + 1) / (NUM_FLIPS + 1)
    return FlipTest(p, 1 / (NUM_FLIPS + 1), num_units, len(sizes), float(np.sqrt(p * (1 - p) / NUM_FLIPS)))


def compare_paired(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None, trials: int = 1, seed: int = 0
) -> Comparison:
    """Compare two methods on the same cells.

    Args:
        first, second: (N,) int, how often each method classified the cell correctly.
        groups: (N,) names or numbers of groups, or None. One group is compared by cell.
        trials: number of classifications of each cell by each method, e.g. by networks with different seeds.
        seed: seed of random flips, see `sign_flip`.

    Raises:
        ArgumentError: there are no cells, or a number is below 0 or above `trials`.
    """
    right = np.stack([np.asarray(first), np.asarray(second)]).astype(np.int64)
    if not right.size or right.min() < 0 or right.max() > trials:
        raise ArgumentError(
            f"numbers of correct predictions must be 0 to {trials} for each of 1 or more cells. Check the predictions."
        )
    gain = right[0] - right[1]
    units = np.zeros(len(gain), np.int64) if groups is None else unit_numbers(groups)
    cells = np.bincount(units).astype(np.float64)
    plus, minus = (float(np.maximum(sign * gain, 0).sum() / trials) for sign in (1, -1))
    if len(cells) < 2:
        test = sign_flip(gain, seed)
        bounds = difference_by_cell(np.array(plus), np.array(minus), cells.sum(), int(groups is not None))
    else:
        hits = np.stack([np.bincount(units, method) for method in right]) / trials
        test = sign_flip(np.rint((hits[0] - hits[1]) * trials), seed)
        bounds = difference_by_group(hits[0], hits[1], cells, np.array(plus), np.array(minus))
    return Comparison(bounds.interval(), test)


def difference_by_cell(plus: Floats, minus: Floats, cells: npt.ArrayLike, num_groups: int = 0) -> IntervalArrays:
    """Compute the interval of Bonett and Price of a difference of two shares on the same cells.

    Args:
        plus, minus: (...) number of cells, or sum over cells, by which the first and the second method is ahead.
        cells: (...) number of cells.
        num_groups: number of groups, 0 or 1.
    """
    total = np.asarray(cells, np.float64)
    up, down, variance = _smoothed(plus, minus, total)
    half = special.ndtri((1 + LEVEL) / 2) * np.sqrt(variance)
    value = np.asarray((plus - minus) / total, np.float64)
    low, high = (np.clip(up - down + side * half, -1, 1) for side in (-1, 1))
    return IntervalArrays(value, np.minimum(low, value), np.maximum(high, value), np.full(np.shape(value), num_groups))


def difference_by_group(first: Floats, second: Floats, cells: Floats, plus: Floats, minus: Floats) -> IntervalArrays:
    """Compute the interval of a difference of two shares over two or more groups; never narrower than by cell.

    Args:
        first, second: (..., G) hits of the two methods.
        cells: (..., G) cells, above 0.
        plus, minus: (...) as of `difference_by_cell`.
    """
    total = cells.sum(-1)
    share = cells / total[..., None]
    spreads, slopes, singles = [], [], []
    for hits in (first, second):
        smooth = (hits.sum(-1) + 1) / (total + 2)
        influence = (hits - (hits.sum(-1) / total)[..., None] * cells) / total[..., None]
        slopes.append(smooth * (1 - smooth))
        spreads.append(moderated_variance(influence, share, slopes[-1] / total, slopes[-1])[0])
        singles.append(proportion(hits, cells))
    value = (first - second).sum(-1) / total
    influence = (first - second - value[..., None] * cells) / total[..., None]
    joint = moderated_variance(influence, share, _smoothed(plus, minus, total)[2], np.hypot(*slopes))[0]
    correlation = np.clip((spreads[0] + spreads[1] - joint) / (2 * np.sqrt(spreads[0] * spreads[1])), -1, 1)

    def reach(one: Floats, other: Floats) -> Floats:
        return np.asarray(np.sqrt(np.maximum(one**2 - 2 * correlation * one * other + other**2, 0)), np.float64)

    a, b = singles
    low = value - reach(a.value - a.low, b.high - b.value)
    high = value + reach(a.high - a.value, b.value - b.low)
    by_cell = difference_by_cell(plus, minus, total)
    low, high = np.minimum(low, by_cell.low), np.maximum(high, by_cell.high)
    return IntervalArrays(value, np.maximum(low, -1), np.minimum(high, 1), a.num_groups)


def _smoothed(plus: Floats, minus: Floats, total: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the shares by which each method is ahead, and the variance of their difference, after Bonett and Price."""
    up, down = (plus + 1) / (total + 2), (minus + 1) / (total + 2)
    return up, down, (up + down - (up - down) ** 2) / (total + 2)
