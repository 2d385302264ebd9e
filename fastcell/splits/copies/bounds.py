"""Bounds of a copy: how well two registered images must agree to count as copies of each other.

Strict bounds come from planted copies that keep the details of a cell. Strong compression changes the details, but by
less than the difference of two cells with a texture. The similarity of different cells is estimated from the registered
pairs, because nearly all of them are neighbours that are no copies. The lenient bounds are set so that, by the tail of
this distribution, one false pair is expected in ten searches. They are used if they are below the strict bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.splits.copies.registration import Fit

MIN_CORRELATION, MIN_DETAIL = 0.99, 0.97
LENIENT_CORRELATION = 0.98
MIN_CELL_SHARE = 0.5
FALSE_PAIRS = 0.1
"""Expected number of pairs of different cells above the lenient bounds in one search."""

_REGISTERED, _FEWEST_COPIES, _SLACK = 0.97, 50, 1.5
_FEWEST_PAIRS, _TAIL, _ROUNDS = 300, 0.1, 10


class Bounds(NamedTuple):
    """Smallest values for which two images count as copies of each other.

    Attributes:
        correlation: correlation of the images.
        detail: correlation of their details, see `fastcell.splits.copies.registration.Fit`.
    """

    correlation: float = MIN_CORRELATION
    detail: float = MIN_DETAIL

    def met_by(self, fit: Fit) -> bool:
        """Return True if a fit reaches these bounds and covers at least half of the cell."""
        return fit.correlation >= self.correlation and fit.detail >= self.detail and fit.cell >= MIN_CELL_SHARE


LEAST_BOUNDS = Bounds(LENIENT_CORRELATION, MIN_DETAIL)
"""Lower limits of the bounds of any search."""


def learn_bounds(fits: Sequence[Fit]) -> Bounds:
    """Derive strict bounds from the fits of planted copies; never below the fixed bounds.

    Different smooth cells can have a correlation of 0.99 and more, but copies of a smooth cell then agree far better.
    The deviation from 1 that a bound allows is 1.5 times the deviation that 98 % of the planted copies do not exceed.

    Args:
        fits: fits of planted copies and their originals.
    """
    found = np.array([(fit.correlation, fit.detail) for fit in fits if fit.correlation >= _REGISTERED]).reshape(-1, 2)
    if len(found) < _FEWEST_COPIES:
        return Bounds()
    correlation, detail = 1 - _SLACK * np.quantile(1 - found, 0.98, axis=0)
    return Bounds(max(float(correlation), MIN_CORRELATION), max(float(detail), MIN_DETAIL))


def relax(strict: Bounds, details: npt.ArrayLike) -> Bounds:
    """Return lenient bounds if registered pairs of different cells agree far less than `strict` requires.

    The tail of Fisher's z of the details, above its quantile of 0.9, is taken as exponential, which decreases more
    slowly than the tail of a normal distribution; its scale is that of its median, which strongly compressed copies
    among the pairs hardly change. Pairs that meet the strict bounds, or the lenient ones of the last round, are copies
    and do not count.

    Args:
        strict: bounds from planted copies.
        details: (P,) correlation of details of all pairs whose correlation is at least `LENIENT_CORRELATION`.

    Returns:
        The lenient bounds; `strict` if they are not lower, or with fewer than 300 pairs.
    """
    strangers = np.asarray(details, np.float64)
    detail = strict.detail
    for _ in range(_ROUNDS):
        strangers = strangers[strangers < detail]
        if len(strangers) < _FEWEST_PAIRS:
            break
        agreement = np.arctanh(np.clip(strangers, -0.99, 1 - 1e-9))
        start = float(np.quantile(agreement, 1 - _TAIL))
        above = agreement[agreement > start]
        scale = float(np.median(above) - start) / np.log(2) if len(above) else 0.0
        limit = np.tanh(start + scale * np.log(_TAIL * len(strangers) / FALSE_PAIRS))
        detail = min(max(float(limit), MIN_DETAIL), detail)
        if not (strangers >= detail).any():
            break
    return Bounds(LENIENT_CORRELATION, detail) if detail < strict.detail else strict
