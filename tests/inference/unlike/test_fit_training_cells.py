import numpy as np
import pytest

from fastcell.inference.unlike.feature_names import IMAGE_FEATURES, NUM_SHAPE_FEATURES
from fastcell.inference.unlike.fit_training_cells import fit_training_cells
from fastcell.inference.unlike.training_cells import LEAST_HELD_OUT, LEAST_TRAINING_CELLS

WIDTH = len(IMAGE_FEATURES)
MIXING = np.random.default_rng(5).normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH) + np.eye(WIDTH)


def cells(num, seed, units=6):
    """Image features of one kind, and activations of three classes that are 5 apart."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num)
    network = rng.normal(size=(num, units)).astype(np.float32)
    if units:
        network[:, 0] += 5 * labels
    return (rng.normal(size=(num, WIDTH)) @ MIXING).astype(np.float32), network, labels


def flagged(known, image, network):
    return float((known.measure(image, network).scores > 1).mean())


def test_about_five_percent_of_cells_of_the_same_kind_are_unlike():
    known = fit_training_cells(*cells(3000, 0), held_out=cells(2000, 1)[:2])
    assert known.num_training == 3000
    assert known.num_held_out == 2000
    image, network, _ = cells(4000, 2)
    assert 0.03 < flagged(known, image, network) < 0.065
    far = network + np.float32(0)
    far[:, 1] += 9
    assert flagged(known, image, far) > 0.99
    between = network.copy()
    between[:, 0] = 100  # far from every class, not only from the mean of all
    assert flagged(known, image, between) == 1


@pytest.mark.parametrize("place", [3, NUM_SHAPE_FEATURES + 1])
def test_one_shifted_feature_is_named(place):
    known = fit_training_cells(*cells(2000, 0), held_out=cells(1000, 1)[:2])
    image, network, _ = cells(300, 2)
    image[:, place] -= 40
    found = known.measure(image, network)
    assert (found.scores > 1).all()
    assert (found.off[:, 0] == 2 * place).mean() > 0.99


def test_without_enough_held_out_cells_training_cells_give_the_limits():
    few = cells(LEAST_HELD_OUT - 1, 1)[:2]
    known = fit_training_cells(*cells(1000, 0), held_out=few)
    assert known.num_held_out == 0
    same = fit_training_cells(*cells(1000, 0))
    np.testing.assert_array_equal(known.limits, same.limits)
    image, network, _ = cells(4000, 2)
    assert 0.02 < flagged(known, image, network) < 0.08


def test_forty_held_out_cells_are_enough_where_training_cells_are_too_near():
    """Activations of training cells that a network has learnt by heart are nearer to the class means."""
    shares = {LEAST_HELD_OUT - 1: [], LEAST_HELD_OUT: []}
    for seed in range(12):
        image, network, labels = cells(200, 3 * seed)
        network = (network - [[5, 0, 0, 0, 0, 0]] * labels[:, None]) * np.float32(0.6)
        network[:, 0] += 5 * labels
        new = cells(500, 3 * seed + 1)[:2]
        for num, found in shares.items():
            held_out = [values[:num] for values in cells(LEAST_HELD_OUT, 3 * seed + 2)[:2]]
            known = fit_training_cells(image, network.astype(np.float32), labels, tuple(held_out))
            found.append(flagged(known, *new))
            assert known.num_held_out == (num if num == LEAST_HELD_OUT else 0)
            assert bool(known.caution) == (num < LEAST_HELD_OUT)
    assert np.mean(shares[LEAST_HELD_OUT]) < 0.07
    assert np.mean(shares[LEAST_HELD_OUT - 1]) > 0.15


def test_few_training_cells_have_no_statistics():
    assert fit_training_cells(*cells(LEAST_TRAINING_CELLS - 1, 0)) is None
    image, network, labels = cells(LEAST_TRAINING_CELLS, 0)
    known = fit_training_cells(image, network, labels)
    assert np.isfinite(known.limits).all()
    image[0, 0] = np.nan
    assert fit_training_cells(image, network, labels) is None


def test_constant_features_and_dead_units_leave_the_distances_finite():
    image, network, labels = cells(500, 0)
    image[:, 4], network[:, 2:] = 0.25, 0.0
    known = fit_training_cells(image, network, labels)
    found = known.measure(image, network)
    assert np.isfinite(found.scores).all()
    assert 0.02 < (found.scores > 1).mean() < 0.08
    image[:, 4] += 1
    assert (known.measure(image, network).scores > 1).all()


def test_a_network_without_activations_has_image_scores_alone():
    image, network, labels = cells(800, 0, units=0)
    known = fit_training_cells(image, network, labels, cells(400, 1, units=0)[:2])
    assert known.network_whitening.shape == (0, 0)
    image, network, _ = cells(3000, 2, units=0)
    assert 0.01 < flagged(known, image, network) < 0.045
    assert flagged(known, image + 30, network) == 1


def test_held_out_cells_that_are_not_finite_raise_the_limits_to_the_largest_distance():
    image, network = cells(200, 1)[:2]
    image[:50] = np.nan
    known = fit_training_cells(*cells(1000, 0), held_out=(image, network))
    assert np.isfinite(known.limits).all()
    assert (known.limits < 1e3).all()


def test_classes_without_training_cells_have_no_mean():
    image, network, labels = cells(600, 0)
    known = fit_training_cells(image, network, np.where(labels == 1, 7, labels))
    assert known.means.shape == (3, 6)
