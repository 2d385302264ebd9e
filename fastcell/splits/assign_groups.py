"""Assign whole groups to subsets so that the shares of cells come closest to the requested shares."""

from __future__ import annotations

import numpy as np

_CLASS_WEIGHT = 0.25  # weight of the shares of single classes, relative to the share of all cells
_ABSENT_PENALTY = 4.0  # for each class that a subset lacks although it has enough groups; more than any distance
_EXHAUSTIVE = 20_000  # up to this number of assignments, all are tried: exact for 9 groups and 3 subsets
_MAX_SWEEPS = 50
_IMPROVABLE = 1000  # groups; if there are more, they are small, and the greedy choice is already close to the best


def assign_groups(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Assign each group to a subset.

    The cost of an assignment is the squared distance of the cell shares from the requested shares, plus a quarter of
    the same distance averaged over classes, plus a penalty for each class that is missing from a subset although it has
    enough groups. For few groups, the best of all assignments is returned. For many groups, each group in order of
    decreasing size is assigned to the subset furthest below its share; with up to 1,000 groups, single moves and swaps
    follow as long as they lower the cost. The generator breaks ties.

    Args:
        counts: (G, K) int64, cells by group and class.
        shares: (S,) float, requested shares, summing to 1. A subset with share 0 stays empty. Every other subset gets
            at least one group if there are enough groups.
        rng: generator for ties.

    Returns:
        (G,) int64, subset of each group, 0 to S - 1.
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
    """Cost of subset counts (..., S, K): distances from the requested shares, absent classes, empty subsets."""

    def __init__(self, counts: np.ndarray, shares: np.ndarray) -> None:
        self.shares = shares
        self.num_cells = max(int(counts.sum()), 1)
        self.class_cells = np.maximum(counts.sum(0), 1)
        self.spread = ((counts > 0).sum(0) >= len(shares)).astype(float)  # classes with enough groups for all subsets

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
    """Assign each group, large ones first, to the subset furthest below its share in all cells and in each class."""
    chosen = np.empty(len(counts), dtype=np.int64)
    subset_counts = np.zeros((num_subsets, counts.shape[1]))
    for i, row in enumerate(counts):
        room = cost.shares - subset_counts.sum(1) / cost.num_cells
        room_of_classes = ((cost.shares[:, None] - subset_counts / cost.class_cells) * row).sum(1) / max(row.sum(), 1)
        chosen[i] = np.argmax((room + _CLASS_WEIGHT * room_of_classes).round(12))
        subset_counts[chosen[i]] += row
    return chosen


def _improve(counts: np.ndarray, chosen: np.ndarray, cost: _Cost) -> np.ndarray:
    """Apply the best single move or swap of each group in turn, until a whole sweep finds no improvement."""
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
