"""Correction of class counts for the errors of the classifier, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcell.stats.bootstrap import draw_rates, draw_shares, percentile_interval

LEAST_TEST_CELLS = 50
"""Number of test cells of a class below which a correction is reported as uncertain."""
LEAST_GROUPS = 5
"""Number of groups from which whole groups, instead of cells, are resampled."""
MOST_CONDITION = 10.0
"""Condition number of P above which it is reported as near-singular: errors of called shares grow by this factor."""
NUM_DRAWS = 2_000
_ITERATIONS = 5_000
_TOLERANCE = 1e-8
_NOTHING = 1e-5
_SINGULAR = 1e-9


@dataclass(frozen=True)
class Confusion:
    """Confusion matrices of a classifier on its test cells.

    Attributes:
        classes: K names.
        tables: (G, K, K) int64, confusion matrix of each group of test cells: row = true class, column = predicted
            class; G = 1 without groups.
    """

    classes: list[str]
    tables: np.ndarray

    @property
    def by_group(self) -> bool:
        """True if there are enough groups to resample whole groups."""
        return len(self.tables) >= LEAST_GROUPS

    @property
    def counts(self) -> np.ndarray:
        """(K, K) int64 confusion matrix over all groups."""
        return self.tables.sum(axis=0)  # type: ignore[no-any-return]

    @property
    def rates(self) -> np.ndarray:
        """(K, K) float64 confusion rates, P; rows sum to 1."""
        counts = self.counts
        return counts / counts.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def draw(self, num_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Draw (R, K, K) matrices P from the posterior distribution, by group if there are enough; see `draw_rates`."""
        return draw_rates(self.tables, self.by_group, num_draws, rng)

    def warnings(self) -> list[str]:
        """Return the reasons why a correction is uncertain, one sentence each."""
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
    """Correct the class counts of one recording for the classifier's errors.

    The interval is computed from matrix inverses that may give negative shares, and is clipped to possible counts at
    the end. If each draw were constrained to shares of at least 0, the interval would contain the true count too rarely
    for rare classes.

    Args:
        called: (K,) int64, number of cells predicted as each class.
        rates: (K, K), P.
        drawn: (R, K, K), posterior draws of `rates`.
        rng: generator for the called shares, see `draw_shares`.
        level: confidence level of the interval.

    Returns:
        Corrected counts and the lower and upper ends of their interval, (K,) float64 each.
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
    """Compute the maximum-likelihood class shares, all at least 0, for given shares of predicted classes.

    Args:
        called: (R, K), shares of predicted classes; rows sum to 1, or to 0 if there are no cells.
        rates: (R, K, K) or (1, K, K), P: rows sum to 1.

    Returns:
        (R, K); rows have the same sums as those of `called`.
    """
    rates = np.broadcast_to(rates, (len(called), *rates.shape[1:]))
    found = _inverted(called, rates)
    rest = np.flatnonzero(~(found >= 0).all(axis=1))
    start = np.clip(np.nan_to_num(found[rest]), 1e-4, 1)
    found[rest] = _maximise(called[rest], rates[rest], start / start.sum(axis=1, keepdims=True))
    return found


def _inverted(called: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return called P^-1, (R, K); NaN if P has no inverse."""
    found = np.full(called.shape, np.nan)
    good = np.linalg.svd(rates, compute_uv=False)[:, -1] > _SINGULAR
    found[good] = np.linalg.solve(rates[good].transpose(0, 2, 1), called[good, :, None])[..., 0]
    return found


def _maximise(called: np.ndarray, rates: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Estimate the shares by expectation maximisation, starting from (R, K) `start`."""
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
