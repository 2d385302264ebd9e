"""Whole groups to subsets so that the cell shares come nearest to what was asked."""

from __future__ import annotations

import numpy as np

_CLASS_WEIGHT = 0.25  # the shares of single classes count, but less than the share of all cells
_ABSENT_PENALTY = 0.02  # for each class that is missing from a subset although it has groups enough
_EXHAUSTIVE = 20_000  # up to this many assignments all of them are tried: exact for 9 groups on 3 subsets
_MAX_SWEEPS = 50
_IMPROVABLE = 1000  # groups; with more of them, and so small ones, the greedy choice is already near


def assign_groups(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Subset number (G,) of each group.

    counts: (G, K) int64, cells by group and class. shares: (S,) float summing to 1; subsets with share 0 stay empty,
    all others get at least one group where there are groups enough. The cost is the squared distance of the cell shares
    from those asked, plus a quarter of the same averaged over classes, plus a penalty for a class missing from a subset
    that it could be on. Few groups: the best of all assignments. Many: large groups first, each to the subset where it
    costs least, then (up to 1,000 groups)
    single moves and swaps while they help. Ties are broken by the generator.
    """
    num_groups = len(counts)
    asked = np.flatnonzero(shares > 0)
    cost = _Cost(counts, shares[asked])
    order = rng.permutation(num_groups)
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    if len(asked) ** num_groups <= _EXHAUSTIVE:
        chosen = _best_of_all(counts[order], cost, len(asked), rng)
    else:
        chosen = _improve(counts[order], _greedy(counts[order], cost, len(asked)), cost)
    subsets = np.empty(num_groups, dtype=np.int64)
    subsets[order] = asked[chosen]
    return subsets


class _Cost:
    """Cost of subset counts (..., S, K): distances from the asked shares, absent classes, empty subsets."""

    def __init__(self, counts: np.ndarray, shares: np.ndarray) -> None:
        self.shares = shares
        self.num_cells = max(int(counts.sum()), 1)
        self.class_cells = np.maximum(counts.sum(0), 1)
        self.spread = ((counts > 0).sum(0) >= len(shares)).astype(float)  # classes that could be in every subset

    def __call__(self, subset_counts: np.ndarray) -> np.ndarray:
        cells = subset_counts.sum(-1)
        total = ((cells / self.num_cells - self.shares) ** 2).sum(-1)
        by_class = ((subset_counts / self.class_cells - self.shares[:, None]) ** 2).sum(-2).mean(-1)
        absent = ((subset_counts == 0) * self.spread).sum((-2, -1))
        return total + _CLASS_WEIGHT * by_class + _ABSENT_PENALTY * absent + 10.0 * (cells == 0).sum(-1)


def _best_of_all(counts: np.ndarray, cost: _Cost, num_subsets: int, rng: np.random.Generator) -> np.ndarray:
    num_groups = len(counts)
    codes = rng.permutation(num_subsets**num_groups)
    choices = codes[:, None] // num_subsets ** np.arange(num_groups) % num_subsets  # (M, G)
    costs = np.concatenate(
        [
            cost(np.stack([(part == subset).astype(np.int64) @ counts for subset in range(num_subsets)], axis=1))
            for part in np.array_split(choices, max(1, len(choices) // 2048))
        ]
    )
    return choices[np.argmin(costs.round(12))]


def _greedy(counts: np.ndarray, cost: _Cost, num_subsets: int) -> np.ndarray:
    """Each group, large ones first, to the subset furthest below its share; all cells and each class are weighed."""
    chosen = np.empty(len(counts), dtype=np.int64)
    subset_counts = np.zeros((num_subsets, counts.shape[1]))
    for i, row in enumerate(counts):
        room = cost.shares - subset_counts.sum(1) / cost.num_cells
        room_of_classes = ((cost.shares[:, None] - subset_counts / cost.class_cells) * row).sum(1) / max(row.sum(), 1)
        chosen[i] = np.argmax((room + _CLASS_WEIGHT * room_of_classes).round(12))
        subset_counts[chosen[i]] += row
    return chosen


def _improve(counts: np.ndarray, chosen: np.ndarray, cost: _Cost) -> np.ndarray:
    """Best single move or swap of each group in turn, until a whole sweep finds none."""
    num_subsets = len(cost.shares)
    if len(counts) > _IMPROVABLE:
        return chosen
    partners = np.arange(len(counts))
    subset_counts = np.stack([counts[chosen == subset].sum(0) for subset in range(num_subsets)]).astype(float)
    for _ in range(_MAX_SWEEPS):
        helped = False
        for i in range(len(counts)):
            here = chosen[i]
            moved = np.repeat(subset_counts[None], num_subsets, axis=0)
            moved[:, here] -= counts[i]
            moved[np.arange(num_subsets), np.arange(num_subsets)] += counts[i]
            swaps = partners[chosen[partners] != here]
            swapped = np.repeat(subset_counts[None], len(swaps), axis=0)
            swapped[:, here] += counts[swaps] - counts[i]
            swapped[np.arange(len(swaps)), chosen[swaps]] += counts[i] - counts[swaps]
            costs = cost(np.concatenate([moved, swapped]))
            best = int(np.argmin(costs))
            if costs[best] < cost(subset_counts) - 1e-12:
                helped = True
                if best < num_subsets:
                    subset_counts, chosen[i] = moved[best], best
                else:
                    partner = swaps[best - num_subsets]
                    subset_counts = swapped[best - num_subsets]
                    chosen[i], chosen[partner] = chosen[partner], here
        if not helped:
            break
    return chosen
