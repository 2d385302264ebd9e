"""Whole groups to subsets: the best assignment of few groups, a near one of many."""

import itertools

import numpy as np
import pytest

from fastcell.splits.assign_groups import assign_groups


def cost(counts, chosen, shares):
    """Squared distance of the cell shares from those asked, a quarter of it by class, 0.02 for an absent class."""
    asked = np.flatnonzero(shares > 0)
    by_side = np.stack([counts[chosen == side].sum(0) for side in asked])
    total = ((by_side.sum(1) / counts.sum() - shares[asked]) ** 2).sum()
    by_class = ((by_side / counts.sum(0) - shares[asked][:, None]) ** 2).sum(0).mean()
    possible = (counts > 0).sum(0) >= len(asked)
    return float(total + 0.25 * by_class + 0.02 * ((by_side == 0) & possible).sum())


@pytest.mark.parametrize("seed", range(3))
def test_few_groups_get_the_best_of_all_assignments(seed):
    rng = np.random.default_rng(seed)
    counts, shares = rng.integers(1, 50, (6, 3)), np.array([0.6, 0.2, 0.2])
    found = assign_groups(counts, shares, rng)
    choices = (np.array(choice) for choice in itertools.product(range(3), repeat=6) if len(set(choice)) == 3)
    assert cost(counts, found, shares) == pytest.approx(min(cost(counts, choice, shares) for choice in choices))


def test_sizes_that_fit_exactly_are_found():
    counts = np.array([[20], [65], [10], [5]])
    found = assign_groups(counts, np.array([0.65, 0.15, 0.2]), np.random.default_rng(0))
    assert found.tolist() == [2, 0, 1, 1]


def test_a_subset_of_share_0_stays_empty():
    found = assign_groups(np.full((6, 1), 10), np.array([0.5, 0.0, 0.5]), np.random.default_rng(0))
    assert sorted(found.tolist()) == [0, 0, 0, 2, 2, 2]


def test_many_groups_come_near_and_none_is_empty():
    rng = np.random.default_rng(0)
    counts = np.stack([np.arange(1, 41), np.arange(40, 0, -1)], axis=1)
    shares = np.array([0.65, 0.15, 0.2])
    found = assign_groups(counts, shares, rng)
    by_side = np.stack([counts[found == side].sum(0) for side in range(3)])
    np.testing.assert_allclose(by_side.sum(1) / counts.sum(), shares, atol=0.01)
    np.testing.assert_allclose(by_side / counts.sum(0), np.repeat(shares[:, None], 2, axis=1), atol=0.02)


def test_a_class_of_few_groups_reaches_every_subset():
    counts = np.zeros((30, 2), int)
    counts[:, 0] = 100
    counts[:3, 1] = 1  # one cell of the rare class in each of three groups
    for seed in range(3):
        found = assign_groups(counts, np.array([0.6, 0.2, 0.2]), np.random.default_rng(seed))
        assert sorted(found[:3].tolist()) == [0, 1, 2]


def test_ties_are_broken_by_the_generator():
    counts = np.full((8, 1), 10)
    shares = np.array([0.5, 0.0, 0.5])
    found = {tuple(assign_groups(counts, shares, np.random.default_rng(seed)).tolist()) for seed in range(10)}
    assert len(found) > 1
    again = [assign_groups(counts, shares, np.random.default_rng(3)).tolist() for _ in range(2)]
    assert again[0] == again[1]
