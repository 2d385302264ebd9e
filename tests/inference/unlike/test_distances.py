import numpy as np

from fastcell.inference.unlike.distances import measure_distances
from fastcell.inference.unlike.reasons import BY_NETWORK, NO_FEATURE


def measure(image, network, limits=(1.0, 1.0, 1.0)):
    """Two features of shape, one of noise, one activation; everything has spread 1 and lies within 2."""
    image, network = np.atleast_2d(np.float32(image)), np.atleast_2d(np.float32(network))
    width, units = image.shape[1], network.shape[1]
    scores, off = np.empty(len(image), np.float32), np.empty((len(image), 2), np.int16)
    ones = np.ones(width)
    measure_distances(
        image, 0 * ones, ones, -2 * ones, 2 * ones, np.eye(width), 2, network, np.eye(units), np.zeros((1, units)),
        np.array(limits), np.empty(width + units), scores, off,
    )  # fmt: skip
    return scores[0], off[0].tolist()


def test_each_distance_is_compared_with_its_limit():
    assert measure([3, 4, 0], [0])[0] == 5
    assert measure([3, 4, 6], [0])[0] == 6
    assert measure([3, 4, 6], [7])[0] == 7
    assert measure([3, 4, 6], [7], (0.5, 1, 10))[0] == 10


def test_the_two_features_farthest_off_are_named():
    assert measure([3, -5, 0], [0])[1] == [2, 1]
    assert measure([1.9, -1.9, 2.5], [0])[1] == [5, NO_FEATURE]
    assert measure([1.9, 1.9, 1.9], [0])[1] == [NO_FEATURE, NO_FEATURE]
    assert measure([9, -8, 7], [0])[1] == [1, 2]


def test_activations_alone_are_named_first():
    assert measure([0.1, 0.1, 0.1], [3])[1] == [BY_NETWORK, NO_FEATURE]
    assert measure([2.1, 0, 0], [3], (9, 9, 1))[1] == [BY_NETWORK, 1]
    assert measure([2.1, 0, 0], [3])[1] == [1, NO_FEATURE]


def test_whitening_does_not_mix_shape_and_noise():
    whitening = np.array([[1.0, 0, 0], [0.5, 1, 0], [7, 7, 1]])  # the last row holds numbers that do not belong there
    image, scores, off = np.float32([[1, 1, 1]]), np.empty(1, np.float32), np.empty((1, 2), np.int16)
    ones, none = np.ones(3), np.empty((0, 0))
    measure_distances(
        image, 0 * ones, ones, -2 * ones, 2 * ones, whitening, 2, np.empty((1, 0), np.float32), none, np.empty((1, 0)),
        np.array([1.0, 1.0, 1.0]), np.empty(3), scores, off,
    )  # fmt: skip
    assert scores[0] == np.float32(np.hypot(1, 1.5))
