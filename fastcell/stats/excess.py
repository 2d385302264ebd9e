"""Groups in which an event is more frequent than by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


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
    names, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place, minlength=len(names))
    counts = np.bincount(place, hits, minlength=len(names)).astype(np.int64)
    return counts_above_chance(names.tolist(), counts, sizes, chance, level)


def counts_above_chance(
    names: Sequence[str], hits: npt.ArrayLike, sizes: npt.ArrayLike, chance: float, level: float = 0.05
) -> list[tuple[str, int, int]]:
    """Find groups as `above_chance` does, given their counts.

    Args:
        names: names of G groups.
        hits: (G,) int, number of hits of each.
        sizes: (G,) int, its size, at least 1.
        chance, level: see `above_chance`.
    """
    hits, sizes = np.asarray(hits, np.int64), np.asarray(sizes, np.int64)
    above = _upper_tail(hits, sizes, chance) * len(names) <= level
    order = np.flatnonzero(above)[np.argsort(-(hits / sizes)[above], kind="stable")]
    return [(names[index], int(hits[index]), int(sizes[index])) for index in order]


def _upper_tail(counts: np.ndarray, sizes: np.ndarray, chance: float) -> np.ndarray:
    """Return the binomial probability of at least `counts` hits of `sizes`; 1 if that is at most the expected number.

    The terms of the sum are computed here, because importing scipy.stats takes longer than a short ``predict``.
    """
    tails = np.ones(len(counts))
    if not 0 < chance < 1:
        return np.where(counts > chance * sizes, 0.0, tails)
    rows = np.flatnonzero(counts > chance * sizes)
    hits, total = counts[rows].astype(np.float64), sizes[rows].astype(np.float64)
    ways = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k, n in zip(hits, total, strict=True)]
    term = np.exp(np.array(ways) + hits * math.log(chance) + (total - hits) * math.log1p(-chance))
    found = term.copy()
    while (term > 1e-17 * found).any():  # each term is smaller than the one before, by a growing factor
        term = term * (total - hits) / (hits + 1) * (chance / (1 - chance))
        hits += 1
        found += term
    tails[rows] = found
    return tails
