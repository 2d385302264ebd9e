"""Score above which a cell is dropped such that few poor cells pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.stats.proportions import clopper_pearson_upper

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
        if clopper_pearson_upper(num, num_bad) > most_passed:
            break
        allowed = num
    if allowed == len(low):
        return Threshold(EVEN, True)
    score = float(low[max(allowed, 0)]) if len(low) else EVEN
    return Threshold(score, allowed >= 0)
