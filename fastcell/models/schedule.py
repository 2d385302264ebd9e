"""Learning rate schedules: the rate during a run as a factor of the peak rate."""

import math
from typing import Literal, get_args

from fastcell.errors import invalid

ScheduleName = Literal["constant", "cosine", "one_cycle", "exponential"]

ONE_CYCLE_START = 1 / 25


def rate_factor(name: str, step: int, num_steps: int, warmup: float = 0.0, final: float = 0.0) -> float:
    """Return the learning rate at a step as a factor of the peak rate.

    Args:
        name: `constant`: 1. `cosine`: half a cosine from 1 to `final`. `exponential`: a constant ratio per step from 1
            to `final`. `one_cycle`: half a cosine up from 1/25 during `warmup`, then half a cosine down to `final`
            (Smith and Topin, arXiv 1708.07120). The first three rise linearly during `warmup`.
        step: 0 to `num_steps`.
        num_steps: optimizer steps of the run.
        warmup: fraction of the run in [0, 1).
        final: factor at the end of the run; > 0 for `exponential`.

    Raises:
        ArgumentError: `name` is unknown.
    """
    if name not in get_args(ScheduleName):
        raise invalid("schedule", f"one of {', '.join(get_args(ScheduleName))}", name, "Choose one of these")
    rise = warmup * num_steps
    if step < rise:
        share = step / rise
        return _half_cosine(ONE_CYCLE_START, 1.0, share) if name == "one_cycle" else (step + 1) / (rise + 1)
    share = min((step - rise) / max(num_steps - rise, 1), 1.0)
    if name == "constant":
        return 1.0
    if name == "exponential":
        return float(final**share)
    return _half_cosine(1.0, final, share)


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
