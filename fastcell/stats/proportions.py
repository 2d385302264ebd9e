"""Confidence intervals of proportions: Clopper-Pearson (guaranteed coverage) and Wilson (coverage on average)."""

from __future__ import annotations

import math


def clopper_pearson_interval(num: int, of: int) -> tuple[float, float]:
    """Compute the Clopper-Pearson 95 % interval of the proportion `num` of `of`; 0 to 1 if `of` is 0.

    Source: Clopper and Pearson, Biometrika 26:404, 1934.
    """
    from scipy.special import betaincinv

    low = float(betaincinv(num, of - num + 1, 0.025)) if num else 0.0
    return low, clopper_pearson_upper(num, of, 0.975)


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
