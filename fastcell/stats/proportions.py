"""Confidence intervals of proportions: Clopper-Pearson (guaranteed coverage) and Wilson (coverage on average)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def binomial_limits(
    hits: npt.ArrayLike, cells: npt.ArrayLike, level: float = 0.95
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute the Clopper-Pearson interval of `hits` among `cells`, arrays of any shape and not necessarily whole.

    Returns:
        Lower and upper ends; NaN where there are no cells, or where the number of hits or of cells is NaN.
    """
    from scipy.special import betaincinv

    x, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(cells, np.float64))
    known, tail = n > 0, (1 - level) / 2
    misses = n - x
    has_hit, has_miss = known & (x > 0), known & (misses > 1e-12 * n)
    low, high = np.where(known & ~np.isnan(x), 0.0, np.nan), np.where(known & ~np.isnan(x), 1.0, np.nan)
    low[has_hit] = betaincinv(x[has_hit], np.maximum(misses[has_hit], 0) + 1, tail)
    high[has_miss] = betaincinv(x[has_miss] + 1, misses[has_miss], 1 - tail)
    return low, high


def clopper_pearson_interval(num: int, of: int) -> tuple[float, float]:
    """Compute the Clopper-Pearson 95 % interval of the proportion `num` of `of`; 0 to 1 if `of` is 0.

    Source: Clopper and Pearson, doi 10.1093/biomet/26.4.404.
    """
    if not of:
        return 0.0, 1.0
    low, high = binomial_limits(num, of)
    return float(low), float(high)


def clopper_pearson_upper(num: int, of: int, confidence: float = 0.95) -> float:
    """Compute the one-sided upper confidence bound (Clopper-Pearson) of the proportion `num` of `of`."""
    from scipy.special import betaincinv

    return float(betaincinv(num + 1, of - num, confidence)) if num < of else 1.0


def wilson_interval(found: int, num: int) -> tuple[float, float]:
    """Compute the Wilson 95 % interval of the proportion `found` of `num`; 0 to 1 if `num` is 0.

    Source: Wilson, Journal of the American Statistical Association 22:209, 1927.
    """
    if num == 0:
        return 0.0, 1.0
    z = 1.959964
    share, scale = found / num, 1 + z * z / num
    middle = (share + z * z / (2 * num)) / scale
    half = z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def describe_share(num: int, of: int) -> str:
    """Return a share as text, e.g. ``3 of 4,012 (0.07 %, 95 % interval 0.02 to 0.22 %)``."""
    if not of:
        return "0 of 0"
    low, high = clopper_pearson_interval(num, of)
    return f"{num:,} of {of:,} ({100 * num / of:.2f} %, 95 % interval {100 * low:.2f} to {100 * high:.2f} %)"
