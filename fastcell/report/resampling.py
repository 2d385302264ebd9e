"""Bootstrap of statistics that a confusion matrix does not hold: how often each cell counts in each resample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

NUM_RESAMPLES = 1000


def usable_groups(groups: np.ndarray | None) -> np.ndarray | None:
    """The groups, or None where there are fewer than two: one group says nothing about how groups differ."""
    return None if groups is None or len(np.unique(groups)) < 2 else groups


def resample(
    num_cells: int, groups: np.ndarray | None = None, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield (N,) int64 for each resample, how often each cell is drawn.

    Args:
        num_cells: N.
        groups: (N,), whole groups are drawn with replacement; None draws single cells.
        num_resamples: how many.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        for _ in range(num_resamples):
            yield np.bincount(rng.integers(num_cells, size=num_cells), minlength=num_cells)
        return
    names, member = np.unique(groups, return_inverse=True)
    for _ in range(num_resamples):
        yield np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[member]
