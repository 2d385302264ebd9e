"""Correction of class counts for the errors of the classifier, with prediction intervals of a new recording.

Confusions differ between recordings. The variance S is estimated from the errors that the estimate would have with the
confusions of each test recording instead of their mean. The variance of the estimate for a new recording is (1 + 1 / G)
S plus the sampling variance of its cells; the interval uses Student's t. With few test recordings, S is averaged with
an assumed variance, as in `fastcell.stats.intervals.moderated_variance`; with a single one, the assumed variance alone
is used. At the upper end a class is more frequent than estimated and S is larger there, so the upper end is computed a
second time, with S at the first upper end; this makes the interval at most a tenth wider.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from fastcell.errors import ArgumentError
from fastcell.stats.intervals import ALLOWED, ASSUMED_DF, Floats

LEAST_TEST_CELLS = 50
"""Number of test cells of a class below which a correction is reported as uncertain."""
LEAST_RECORDINGS = 5
"""Number of test recordings below which the interval mainly depends on an assumed difference between recordings."""
ASSUMED_CONFUSION_SD = 0.7
"""Assumed standard deviation between recordings of the log odds of each entry of a confusion matrix."""
MOST_WIDENED = 1.1
"""Largest width of an interval whose upper end was computed again, relative to its width before."""
MOST_CONDITION = 10.0
"""Condition number of P above which P is reported as near-singular: errors of predicted shares grow by this factor."""
_MOST_WARNINGS = 6
_ITERATIONS = 5_000
_TOLERANCE = 1e-8
_NOTHING = 1e-5
_SINGULAR = 1e-9
_MOST_SOLVABLE = 1e8


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
    def counts(self) -> np.ndarray:
        """(K, K) int64 confusion matrix over all groups."""
        return self.tables.sum(axis=0)  # type: ignore[no-any-return]

    @property
    def rates(self) -> np.ndarray:
        """(K, K) float64 confusion rates, P; rows sum to 1."""
        counts = self.counts
        return counts / counts.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def warnings(self) -> list[str]:
        """Return the reasons why a correction is uncertain, one sentence each."""
        support = self.counts.sum(axis=1).tolist()
        few = [place for place, cells in enumerate(support) if cells < LEAST_TEST_CELLS]
        found = [
            f"class {self.classes[place]} has {support[place]:,} test cell{'s' * (support[place] != 1)}, too few to "
            "estimate its confusions well."
            for place in few[:_MOST_WARNINGS]
        ]
        if len(few) > _MOST_WARNINGS:
            found.append(f"{len(few) - _MOST_WARNINGS:,} more classes have too few test cells.")
        condition = float(np.linalg.cond(self.rates))
        if not condition <= MOST_CONDITION:
            near = self.rates @ self.rates.T
            norms = np.sqrt(np.diag(near))
            near = near / np.outer(norms, norms) - 2 * np.eye(len(near))
            one, other = sorted(np.unravel_index(near.argmax(), near.shape))
            pair = f"classes {self.classes[one]} and {self.classes[other]}"
            if np.linalg.svd(self.rates, compute_uv=False)[-1] > _SINGULAR:
                found.append(
                    f"the confusion matrix is near-singular (condition number {condition:,.0f}): {pair} can hardly be "
                    "told apart; count them together."
                )
            else:
                found.append(f"{pair} cannot be told apart by this classifier; count them together.")
        num = len(self.tables)
        if num < LEAST_RECORDINGS:
            found.append(
                f"{num} test recording{'s' * (num > 1)} cannot show how much recordings differ: a typical "
                f"difference is assumed (log odds of each confusion, standard deviation {ASSUMED_CONFUSION_SD}). "
                f"Test on {LEAST_RECORDINGS} or more recordings, named as groups."
            )
        return found


def correct_counts(
    called: np.ndarray, confusion: Confusion, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correct the class counts of one new recording for the classifier's errors.

    The interval is for the expected number of cells of each class in a recording of this size. It is centred on the
    inverse of the confusion rates, which may give negative shares; it is clipped to possible counts, and contains the
    estimate.

    Args:
        called: (K,) int64, number of cells predicted as each class.
        confusion: confusions of the test recordings; each class must occur.
        level: confidence level of the interval.

    Returns:
        Corrected counts and the lower and upper ends of their interval, (K,) float64 each.

    Raises:
        ArgumentError: a class has no test cell.
    """
    counts = confusion.counts
    if not counts.sum(axis=1).all():
        raise ArgumentError("every class must have test cells, got a class without. Test on cells of all classes.")
    total, rates = float(called.sum()), confusion.rates
    estimate = likeliest_shares(called[None] / max(total, 1), rates[None])[0] * total
    if not total or np.linalg.cond(rates) > _MOST_SOLVABLE:
        return estimate, np.zeros(len(called)), np.full(len(called), total)
    shares = np.linalg.solve(rates.T, called / total)
    possible = np.clip(shares, 0, None) / np.clip(shares, 0, None).sum()
    recorded = _cell_variance(called, confusion)
    spread, df = _recording_variance(confusion, possible)
    quantile = special.stdtrit(df, (1 + level) / 2)
    half = quantile * np.sqrt(spread + recorded)
    low, high = (np.clip(shares + sign * half, 0, 1) for sign in (-1, 1))
    # Recordings differ by more where a class is more frequent: the upper end is found twice.
    at_high = np.diag(_recording_variance(confusion, _with_share(possible, high))[0])
    again = np.clip(shares + quantile * np.sqrt(at_high + recorded), 0, 1)
    low, high = np.minimum(low * total, estimate), np.maximum(high * total, estimate)
    return estimate, low, np.maximum(high, np.minimum(again * total, low + MOST_WIDENED * (high - low)))


def _with_share(shares: Floats, of_class: Floats) -> Floats:
    """Return (K, K) shares: in row k, class k has the share `of_class[k]`, and the others share the rest as before."""
    others = np.tile(shares, (len(shares), 1))
    np.fill_diagonal(others, 0)
    left = others.sum(axis=1, keepdims=True)
    evenly = (1 - np.eye(len(shares))) / max(len(shares) - 1, 1)
    others = np.where(left > 0, others / np.where(left > 0, left, 1), evenly)
    return np.asarray(others * (1 - of_class)[:, None] + np.diag(of_class), np.float64)


def _multinomial(p: Floats) -> Floats:
    """Return the covariances of one draw from probabilities, (..., K) -> (..., K, K)."""
    return p[..., None] * (np.eye(p.shape[-1]) - p[..., None, :])


def _through(covariance: Floats, inverse: Floats) -> Floats:
    """Return the variances of shares whose called shares have these covariances, (..., K, K) -> (..., K)."""
    return np.einsum("ji,...jk,ki->...i", inverse, covariance, inverse)


def _cell_variance(called: np.ndarray, confusion: Confusion) -> Floats:
    """Compute the variance of corrected shares (K,) because a recording holds few cells."""
    smooth = (called + 0.5) / (called.sum() + len(called) / 2)
    return _through(_multinomial(smooth), np.linalg.inv(confusion.rates)) / called.sum()


def _recording_variance(confusion: Confusion, shares: Floats) -> tuple[Floats, float]:
    """Compute the variance of corrected shares because a new recording is confused in another way.

    Args:
        confusion: confusions of the test recordings.
        shares: (..., K) shares of the recording, at least 0, of sum 1.

    Returns:
        Variances (..., K), and their degrees of freedom.
    """
    tables, counts = confusion.tables.astype(np.float64), confusion.counts
    support, num, size = counts.sum(axis=1), len(tables), len(counts)
    inverse = np.linalg.inv(confusion.rates)
    rows = _multinomial((counts + 0.5) / (support[:, None] + size / 2))
    cells = num * (shares**2 / support) @ _through(rows, inverse)
    spread = cells + ASSUMED_CONFUSION_SD**2 * shares**2 @ _through(rows @ rows, inverse)
    df = num - 1.0
    if num > 1:
        own = tables.sum(axis=2, keepdims=True)
        # a recording without cells of a class counts as confusing it like all of them
        each = np.where(own > 0, tables / np.maximum(own, 1), confusion.rates)
        off = np.einsum("...k,gkj->...gj", shares, each - confusion.rates) @ inverse
        seen = np.maximum((off**2).sum(axis=-2) / df, cells)
        spread = np.minimum(spread, seen * df / (2 * special.gammaincinv(df / 2, ALLOWED)))
        spread = (ASSUMED_DF * spread + df * seen) / (ASSUMED_DF + df)
    return (1 + 1 / num) * np.maximum(spread, cells), df + ASSUMED_DF


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
    total = found.sum(axis=1, keepdims=True)
    # Where no class is ever called as these cells are, the calls say nothing and the start is kept.
    kept = np.where(called.sum(axis=1, keepdims=True) > 0, start, 0)
    return np.where(total > 0, found / np.maximum(total, tiny), kept)
