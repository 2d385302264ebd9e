"""Shares with intervals, and the score from which on a cell is dropped so that few bad ones pass."""

from __future__ import annotations

from scipy.special import betaincinv


def interval(num: int, of: int) -> tuple[float, float]:
    """95 % interval of a share, `num` of `of` (Clopper and Pearson, Biometrika 26:404, 1934); 0 to 1 of none."""
    low = float(betaincinv(num, of - num + 1, 0.025)) if num else 0.0
    return low, upper_bound(num, of, 0.975)


def upper_bound(num: int, of: int, confidence: float = 0.95) -> float:
    """The share that `num` of `of` does not exceed with this confidence."""
    return float(betaincinv(num + 1, of - num, confidence)) if num < of else 1.0


def describe_share(num: int, of: int) -> str:
    """E.g. ``3 of 4,012 (0.07 %, 95 % interval 0.02 to 0.22 %)``."""
    if not of:
        return "0 of 0"
    low, high = interval(num, of)
    return f"{num:,} of {of:,} ({100 * num / of:.2f} %, 95 % interval {100 * low:.2f} to {100 * high:.2f} %)"
