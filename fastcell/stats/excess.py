"""Groups in which an event is more frequent than by chance."""

from __future__ import annotations

import numpy as np


def above_chance(
    hits: np.ndarray, groups: np.ndarray, chance: float, level: float = 0.05
) -> list[tuple[str, int, int]]:
    """Find groups with more hits than a chance level explains.

    The test is one-sided and binomial, with Bonferroni's correction for the number of groups, so that data without an
    excess give a group in at most one of twenty cases.

    Args:
        hits: (N,) bool.
        groups: (N,) str, group of each.
        chance: largest share of hits by chance.
        level: largest p, after the correction.

    Returns:
        Name, number of hits and size of these groups, in descending order of the share.
    """
    from scipy.stats import binom

    names, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place, minlength=len(names))
    counts = np.bincount(place, hits, minlength=len(names)).astype(np.int64)
    above = binom.sf(counts - 1, sizes, chance) * len(names) <= level
    order = np.flatnonzero(above)[np.argsort(-(counts / sizes)[above], kind="stable")]
    return [(str(names[index]), int(counts[index]), int(sizes[index])) for index in order]
