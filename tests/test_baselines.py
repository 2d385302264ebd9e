"""Baselines find what is there to be found, and refuse what would not end."""

import numpy as np
import pytest

from fastcell.baselines import KNN_SUBSAMPLE, Backend, fit_baseline, make_baseline
from fastcell.errors import ArgumentError


def rings(num, seed):
    """Two classes of 8 x 8 images whose first two pixels lie on circles of radius 1 and 2: no line parts them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 2
    angle = rng.uniform(0, 2 * np.pi, num)
    images = rng.normal(0, 0.01, (num, 8, 8)).astype(np.float32)
    radius = 1 + labels + rng.normal(0, 0.1, num)
    images[:, 0, 0] += radius * np.cos(angle)
    images[:, 0, 1] += radius * np.sin(angle)
    return images, labels


@pytest.mark.parametrize("method", ["knn", "svm"])
def test_rings_are_told_apart(method):
    images, labels = rings(400, 0)
    valid_images, valid_labels = rings(200, 1)
    fitted = fit_baseline(method, images, labels, valid_images, valid_labels, components=2)
    assert fitted.valid_accuracy > 0.97
    test_images, test_labels = rings(300, 2)
    assert (fitted.estimator.predict(test_images.reshape(300, -1)) == test_labels).mean() > 0.97


def test_knn_votes_among_the_papers_subsample():
    images, labels = rings(KNN_SUBSAMPLE + 500, 0)
    fitted = fit_baseline("knn", images, labels, images[:100], labels[:100], components=2)
    assert fitted.estimator[-1].n_samples_fit_ == KNN_SUBSAMPLE


def test_the_parameters_are_picked_on_the_validation_cells():
    images, labels = rings(200, 0)
    noisy = labels.copy()
    noisy[::7] = 1 - noisy[::7]  # one neighbour alone follows the wrong labels
    valid_images, valid_labels = rings(400, 1)
    fitted = fit_baseline("knn", images, noisy, valid_images, valid_labels, components=2)
    assert fitted.parameters["n_neighbors"] > 1


def test_refusals():
    with pytest.raises(ArgumentError, match="components must be a number above 3,000"):
        make_baseline("svm", 5000, components=None)
    with pytest.raises(ArgumentError, match="method must be one of knn, svm"):
        make_baseline("forest", 10)


def test_a_given_backend_is_used():
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import LinearSVC

    class Mine(KNeighborsClassifier):
        pass

    assert isinstance(make_baseline("knn", 10, backend=Backend("mine", LinearSVC, Mine))[-1], Mine)
