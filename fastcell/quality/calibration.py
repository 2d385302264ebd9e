"""Shares with intervals, and the score from which on a cell is dropped so that few bad ones pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

EVEN = 0.5
"""Score from which on a cell is dropped whatever the calibration allows: bad is then likelier than good."""


class Threshold(NamedTuple):
    """The score from which on cells are dropped.

    Attributes:
        score: 0 to `EVEN`.
        promised: False where there were too few bad cells to promise the share that was asked for.
    """

    score: float
    promised: bool


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


def calibrate(scores: npt.ArrayLike, num_bad: int, most_passed: float) -> Threshold:
    """The highest threshold up to `EVEN` for which no more than `most_passed` of bad cells pass, at 95 % confidence.

    Args:
        scores: of held-out bad cells, those below `EVEN` at least.
        num_bad: held-out bad cells in all.
        most_passed: share of bad cells that may score below the threshold, 0 to 1.
    """
    low = np.sort(np.asarray(scores, np.float64))
    low = low[low < EVEN]
    allowed = -1
    for num in range(len(low) + 1):
        if upper_bound(num, num_bad) > most_passed:
            break
        allowed = num
    if allowed == len(low):
        return Threshold(EVEN, True)
    score = float(low[max(allowed, 0)]) if len(low) else EVEN
    return Threshold(score, allowed >= 0)
