"""Permutation tests: exact where nothing is there, and sure where something is."""

import numpy as np
import pytest

from fastcell.audit.permutation_designs import block_folds
from fastcell.stats.permutation import (
    Design,
    held_out_rates,
    normal_scores,
    outcome,
    permutation_test,
    permute_within,
    whiten,
    with_squares,
)


def free_design(labels):
    num = len(labels)
    return Design(np.arange(num), labels, block_folds(labels), np.arange(num), np.zeros(num, np.int64))


def test_p_is_uniform_where_there_is_nothing_to_read():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(120):
        labels = rng.integers(0, 3, 60)
        found.append(permutation_test(rng.normal(size=(60, 4)), free_design(labels), 49, rng).p)
    # 120 draws: the standard error of the share below 0.1 is 0.027
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.09)
    assert np.mean(found) == pytest.approx(0.5, abs=0.09)


def test_exchanging_whole_units_is_exact_where_cells_of_a_unit_are_alike():
    rng = np.random.default_rng(1)
    by_unit, by_cell = [], []
    for _ in range(60):
        units = np.repeat(np.arange(10), 12)
        labels = np.repeat(np.arange(2), 60)
        values = rng.normal(size=(10, 3))[units] * 2 + rng.normal(size=(120, 3))
        nested = Design(np.arange(120), labels, units, units, np.zeros(120, np.int64))
        by_unit.append(permutation_test(values, nested, 39, rng).p)
        by_cell.append(permutation_test(values, free_design(labels), 39, rng).p)
    assert np.mean(np.array(by_unit) <= 0.05) < 0.15
    assert np.mean(np.array(by_cell) <= 0.05) > 0.8  # what would be wrong: cells of a recording taken as independent


def test_effects_are_found_and_measured():
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(2), 200)
    values = rng.normal(size=(400, 5))
    values[:, 2] += 2 * labels  # the best rule is right with probability Phi(1) = 0.841
    found = permutation_test(values, free_design(labels), 99, rng)
    assert found.number == pytest.approx(0.841, abs=0.05)
    assert found.chance == pytest.approx(0.5, abs=0.02)
    assert found.p == pytest.approx(0.01)


def test_two_classes_are_told_as_by_scikit_learns_discriminant_analysis():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [150, 50])
    values = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4)) + 0.8 * labels[:, None]
    folds = np.arange(200) % 2
    right = np.zeros(2)
    for fold in (0, 1):
        model = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.5, 0.5])
        called = model.fit(values[folds != fold], labels[folds != fold]).predict(values[folds == fold])
        right += np.bincount(labels[folds == fold][called == labels[folds == fold]], minlength=2)
    ours = held_out_rates(whiten(values), labels, folds)[0]
    # Its covariance is within classes and of the training fold, ours is of all cells: nearly the same direction.
    assert ours == pytest.approx(right / [150, 50], abs=0.06)


def test_held_out_recall_by_hand():
    values = np.array([[0.0], [1.0], [10.0], [11.0], [6.0], [2.0]], np.float32)
    labels = np.array([0, 0, 1, 1, 0, 1])
    folds = np.array([0, 1, 0, 1, 2, 2])
    # fold 2 is fitted to 0, 1 | 10, 11: 6 is called 1, and 2 is called 0
    assert held_out_rates(values, labels, folds)[0].tolist() == pytest.approx([2 / 3, 2 / 3])


def test_a_label_missing_from_the_other_folds_is_never_called():
    values = np.array([[0.0], [0.1], [5.0]], np.float32)
    assert held_out_rates(values, np.array([0, 0, 1]), np.array([0, 1, 2]))[0].tolist() == [1.0, 0.0]


def test_nothing_can_be_exchanged():
    labels = np.array([0, 0, 1, 1])
    design = Design(np.arange(4), labels, np.array([0, 1, 0, 1]), np.arange(4), labels)
    found = permutation_test(np.eye(4), design, 10, np.random.default_rng(0))
    assert np.isnan(found.p)
    assert found.least_p == 1.0
    assert design.num_arrangements() == pytest.approx(1)


def test_arrangements_bound_p():
    labels = np.array([0, 0, 1, 1])
    design = Design(np.arange(4), labels, np.arange(4), np.arange(4), np.zeros(4, np.int64))
    assert design.num_arrangements() == pytest.approx(6)
    assert permutation_test(np.eye(4), design, 99, np.random.default_rng(0)).least_p == pytest.approx(1 / 6)


def test_permute_within_stays_within():
    strata = np.array([2, 0, 1, 0, 2, 1, 1, 0])
    rng = np.random.default_rng(0)
    orders = [permute_within(strata, rng) for _ in range(50)]
    assert all((strata[order] == strata).all() and sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) > 30


def test_outcome_counts_ties_as_hits():
    assert outcome(0.5, np.array([0.5, 0.4, 0.6])).p == pytest.approx(3 / 4)


def test_whitened_features_have_unit_covariance_and_no_constants():
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)) * [1, 100, 0.01], np.ones(500)])
    white = whiten(values)
    assert white.shape == (500, 3)
    assert np.cov(white.T) == pytest.approx(np.eye(3), abs=0.15)
    assert whiten(np.ones((5, 2))).tolist() == [[0.0]] * 5


def test_normal_scores_know_ranks_only():
    scores = normal_scores(np.array([[1.0], [1e9], [2.0], [2.0]]))[:, 0]
    assert scores[0] < scores[2] == scores[3] < scores[1]
    assert with_squares(np.arange(3.0)[:, None]).shape == (3, 2)
