"""Drop threshold: the score at or above which cells are dropped, so that few bad cells pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.stats.proportions import clopper_pearson_upper

EVEN = 0.5
"""Score at or above which a cell is always dropped, because it is more likely bad than good."""


class Threshold(NamedTuple):
    """The score from which cells are dropped.

    Attributes:
        score: 0 to `EVEN`.
        promised: False if there were too few bad cells to guarantee the requested share.
    """

    score: float
    promised: bool


def calibrate(scores: npt.ArrayLike, num_bad: int, most_passed: float) -> Threshold:
    """Find the highest threshold up to `EVEN` at which at most `most_passed` of bad cells pass, with 95 % confidence.

    Args:
        scores: scores of held-out bad cells; those of at least `EVEN` may be omitted.
        num_bad: total number of held-out bad cells.
        most_passed: largest share of bad cells that may score below the threshold, 0 to 1.
    """
    low = np.sort(np.asarray(scores, np.float64))
    low = low[low < EVEN]
    allowed = -1
    for num in range(len(low) + 1):
        if clopper_pearson_upper(num, num_bad) > most_passed:
            break
        allowed = num
    if allowed == len(low):
        return Threshold(EVEN, True)
    score = float(low[max(allowed, 0)]) if len(low) else EVEN
    return Threshold(score, allowed >= 0)
