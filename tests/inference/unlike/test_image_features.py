import os

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.inference.unlike import image_loop
from fastcell.inference.unlike.feature_names import IMAGE_FEATURES, NUM_SHAPE_FEATURES
from fastcell.inference.unlike.image_features import network_image_features

IMAGES = np.random.default_rng(0).normal(1, 0.2, (70, 1, 40, 40)).astype(np.float32)


def test_names_are_those_of_the_loop():
    assert len(IMAGE_FEATURES) == image_loop.NUM_FEATURES
    assert image_loop.FIRST_NOISE == NUM_SHAPE_FEATURES
    for name in ("background", "kurtosis", "radius", "elongation"):
        assert getattr(image_loop, name.upper()) == IMAGE_FEATURES.index(name)
    assert IMAGE_FEATURES.index("ring_0") == image_loop.FIRST_RING


def test_features_do_not_depend_on_batch_or_threads():
    together = network_image_features(IMAGES)
    assert together.shape == (70, len(IMAGE_FEATURES))
    for threads in (2, 3, 16):
        np.testing.assert_array_equal(network_image_features(IMAGES, threads), together)
    alone = np.concatenate([network_image_features(IMAGES[row : row + 1]) for row in range(70)])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(network_image_features(IMAGES[::-1]), together[::-1])
    assert network_image_features(IMAGES[:0]).shape == (0, len(IMAGE_FEATURES))


def test_a_forked_child_measures_in_threads():
    expected = network_image_features(IMAGES, 2)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(network_image_features(IMAGES, 2), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_pixels_that_are_not_finite_give_features_that_are_not():
    images = IMAGES[:3].copy()
    images[1, 0, 20, 20] = np.nan
    measured = network_image_features(images)
    assert np.isfinite(measured[[0, 2]]).all()
    assert not np.isfinite(measured[1]).all()


@pytest.mark.parametrize(
    "images",
    [
        IMAGES.astype(np.float64),
        IMAGES[:, 0],
        IMAGES[:, :, :30],
        np.zeros((2, 3, 16, 16), np.float32),
        np.zeros((2, 1, 7, 7), np.float32),
        [1, 2],
    ],
)
def test_other_images_are_refused(images):
    with pytest.raises(ArgumentError, match="images must be float32 of shape"):
        network_image_features(images)
