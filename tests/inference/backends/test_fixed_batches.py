"""Batches of one size: what the function is given, and what comes back."""

import numpy as np
import pytest

from fastcell.inference.backends.fixed_batches import batch_size, run_in_batches


@pytest.mark.parametrize(("count", "seen"), [(0, [4]), (1, [1]), (2, [4]), (4, [4]), (9, [4, 4, 4])])
def test_every_batch_is_full_and_every_image_comes_back_once(count, seen):
    sizes = []

    def run(images):
        sizes.append(len(images))
        return images[:, 0, 0, :2] * 2, images[:, 0, 0, :1]

    images = np.arange(count * 9, dtype=np.float32).reshape(count, 1, 3, 3)
    logits, features = run_in_batches(run, images, 4, 1)
    assert sizes == seen
    np.testing.assert_array_equal(logits, images[:, 0, 0, :2] * 2)
    np.testing.assert_array_equal(features, images[:, 0, 0, :1])


def test_a_network_without_features_gives_none():
    images = np.ones((5, 1, 3, 3), np.float64)
    logits, features = run_in_batches(lambda batch: (batch[:, 0, 0], None), images, 2, 0)
    assert (logits.shape, features.shape, features.dtype) == ((5, 3), (5, 0), np.float32)


def test_batches_fit_into_a_cache():
    assert [batch_size(size) for size in (8, 32, 64, 128, 512)] == [128, 128, 64, 16, 16]
