"""The percentile bootstrap: what the intervals of fastcell are compared with, for many simulated sets at once."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
NUM_DRAWS = 500


def share_by_group(hits, cells, rng):
    """Return the limits (sets,) of the share of hits, (sets, groups); whole groups are drawn."""
    drawn = _times(hits.shape, rng)
    shares = (drawn @ hits[:, :, None])[..., 0] / (drawn @ cells[:, :, None])[..., 0]
    low, high = np.quantile(shares, [0.025, 0.975], axis=1)
    return low, high


def mean_by_group(values, rng):
    """Return the limits (sets,) of the mean of values, (sets, groups)."""
    means = (_times(values.shape, rng) @ values[:, :, None])[..., 0] / values.shape[1]
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return low, high


def corrected_counts(called, tables, rng):
    """Return the limits (K,) of corrected counts from posterior draws; groups are weighted at random from 5 on.

    Rows of the confusion rates are drawn from the Dirichlet distribution of their counts (Jeffreys' prior), the called
    shares likewise.
    """
    counts = np.broadcast_to(tables.sum(0).astype(float), (NUM_DRAWS, *tables.shape[1:]))
    if len(tables) >= 5:
        weights = rng.dirichlet(np.ones(len(tables)), NUM_DRAWS)
        weighted = (weights @ tables.reshape(len(tables), -1)).reshape(counts.shape)
        counts = counts.sum(2, keepdims=True) * weighted / weighted.sum(2, keepdims=True)
    gamma = rng.standard_gamma(counts + 0.5)
    rates = gamma / gamma.sum(2, keepdims=True)
    shares = rng.dirichlet(called + 0.5, NUM_DRAWS)
    found = np.linalg.solve(rates.transpose(0, 2, 1), shares[:, :, None])[..., 0] * called.sum()
    low, high = np.quantile(found, [0.025, 0.975], axis=0).clip(0, called.sum())
    return low, high


def _times(shape, rng):
    """Draw how often each group occurs, (sets, draws, groups)."""
    sets, groups = shape
    return rng.multinomial(groups, np.full(groups, 1 / groups), (sets, NUM_DRAWS)).astype(np.float64)
