"""Counts of classes corrected for the classifier's confusions, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcell.stats.bootstrap import draw_rates, draw_shares, percentile_interval

LEAST_TEST_CELLS = 50
"""Test cells of a class below which a correction is called unsure."""
LEAST_GROUPS = 5
"""Groups from which on these are resampled, and not cells."""
MOST_CONDITION = 10.0
"""Condition number of P beyond which it is called hard to invert: errors of the called shares grow by as much."""
NUM_DRAWS = 2_000
_ITERATIONS = 5_000
_TOLERANCE = 1e-8
_NOTHING = 1e-5
_SINGULAR = 1e-9


@dataclass(frozen=True)
class Confusion:
    """What is known of the errors of a classifier.

    Attributes:
        classes: K names.
        tables: (G, K, K) int64, called class (column) of the cells of each class (row), by group of the test cells;
            G = 1 where there are no groups.
    """

    classes: list[str]
    tables: np.ndarray

    @property
    def by_group(self) -> bool:
        """Whether there are enough groups to resample them."""
        return len(self.tables) >= LEAST_GROUPS

    @property
    def counts(self) -> np.ndarray:
        """(K, K) int64 over all groups."""
        return self.tables.sum(axis=0)  # type: ignore[no-any-return]

    @property
    def rates(self) -> np.ndarray:
        """(K, K) float64, P: rows sum to 1."""
        counts = self.counts
        return counts / counts.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def draw(self, num_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Draw (R, K, K) matrices P as likely as this one, by group where there are enough; see `draw_rates`."""
        return draw_rates(self.tables, self.by_group, num_draws, rng)

    def warnings(self) -> list[str]:
        """What makes a correction unsure, one sentence each."""
        found = []
        for name, support in zip(self.classes, self.counts.sum(axis=1).tolist(), strict=True):
            if support < LEAST_TEST_CELLS:
                found.append(f"class {name} has {support:,} test cells: how it is confused is hardly known.")
        condition = float(np.linalg.cond(self.rates))
        if not condition <= MOST_CONDITION:
            near = self.rates @ self.rates.T
            norms = np.sqrt(np.diag(near))
            near = near / np.outer(norms, norms) - 2 * np.eye(len(near))
            one, other = sorted(np.unravel_index(near.argmax(), near.shape))
            found.append(
                f"the confusion matrix is near-singular (condition number {condition:.0f}): classes "
                f"{self.classes[one]} and {self.classes[other]} can hardly be told apart; count them together."
            )
        if 1 < len(self.tables) < LEAST_GROUPS:
            found.append(f"the test cells have {len(self.tables)} groups, too few to resample: intervals are by cell.")
        return found


def correct_counts(
    called: np.ndarray, rates: np.ndarray, drawn: np.ndarray, rng: np.random.Generator, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correct the counts of one recording; returns them and the ends of their interval, (K,) float64 each.

    The interval is from inverses that may be negative, cut to what can be at the end: with shares held at 0 or above in
    each draw it would hold the truth too seldom where a class is rare.

    Args:
        called: (K,) int64, cells called each class.
        rates: (K, K), P.
        drawn: (R, K, K), matrices as likely as `rates`.
        rng: for the called shares, see `draw_shares`.
        level: of the interval.
    """
    total = int(called.sum())
    estimate = likeliest_shares(called[None] / max(total, 1), rates[None])[0] * total
    resampled = _inverted(draw_shares(called, len(drawn), rng), drawn) * total
    resampled = resampled[~np.isnan(resampled).any(axis=1)]
    if not len(resampled):
        return estimate, np.zeros(len(called)), np.full(len(called), float(total))
    low, high = (bound.clip(0, total) for bound in percentile_interval(resampled, 50 * (1 - level)))
    return estimate, np.minimum(low, estimate), np.maximum(high, estimate)


def likeliest_shares(called: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Find (R, K) shares of the classes, >= 0, that make the called shares likeliest; rows sum to those of `called`.

    Args:
        called: (R, K), rows sum to 1, or to 0 where there is no cell.
        rates: (R, K, K) or (1, K, K), P: rows sum to 1.
    """
    rates = np.broadcast_to(rates, (len(called), *rates.shape[1:]))
    found = _inverted(called, rates)
    rest = np.flatnonzero(~(found >= 0).all(axis=1))
    start = np.clip(np.nan_to_num(found[rest]), 1e-4, 1)
    found[rest] = _maximise(called[rest], rates[rest], start / start.sum(axis=1, keepdims=True))
    return found


def _inverted(called: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """(R, K), called P^-1; all NaN where P has no inverse."""
    found = np.full(called.shape, np.nan)
    good = np.linalg.svd(rates, compute_uv=False)[:, -1] > _SINGULAR
    found[good] = np.linalg.solve(rates[good].transpose(0, 2, 1), called[good, :, None])[..., 0]
    return found


def _maximise(called: np.ndarray, rates: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Expectation maximisation of the shares, from (R, K) `start`."""
    found = start.copy()
    active = np.arange(len(found))
    tiny = np.finfo(float).tiny
    for _ in range(_ITERATIONS):
        if not len(active):
            break
        now, matrix = found[active], rates[active]
        expected = np.matmul(now[:, None], matrix)[:, 0]
        ratio = called[active] / np.maximum(expected, tiny)
        better = now * np.matmul(matrix, ratio[..., None])[..., 0]
        found[active] = better
        active = active[np.abs(better - now).max(axis=1) > _TOLERANCE]
    found[found < _NOTHING] = 0
    return found / np.maximum(found.sum(axis=1, keepdims=True), tiny)
