import numpy as np
import pytest

from fastcell.inference.unlike.images_without_cells import images_without_cells


@pytest.mark.parametrize("side", [8, 17, 64])
def test_shapes_and_pixels_are_kept(side):
    images = np.random.default_rng(0).normal(1, 0.2, (3, 1, side, side)).astype(np.float32)
    before = images.copy()
    made = images_without_cells(images)
    np.testing.assert_array_equal(images, before)
    assert list(made) == ["empty frames", "mixed pixels", "mixed pieces"]
    for values in made.values():
        assert values.dtype == np.float32
        assert values.shape == images.shape
        assert values.flags.c_contiguous
        assert not np.array_equal(values, images)
    for name in ("mixed pixels", "mixed pieces"):
        np.testing.assert_array_equal(np.sort(made[name].reshape(3, -1)), np.sort(images.reshape(3, -1)))
    again = images_without_cells(images)
    assert all(np.array_equal(made[name], again[name]) for name in made)
    assert not np.array_equal(made["mixed pixels"], images_without_cells(images, seed=1)["mixed pixels"])


def test_empty_frames_repeat_the_rim():
    """16 px have a rim of 2 rows: rows 0, 1, 1, 0, 0, 1, 1, 0 and so on."""
    images = np.repeat(np.arange(16, dtype=np.float32), 16).reshape(1, 1, 16, 16)
    empty = images_without_cells(images)["empty frames"]
    assert empty[0, 0, :, 5].tolist() == [0, 1, 1, 0] * 4


def test_mixed_pieces_are_whole():
    images = np.zeros((1, 1, 8, 8), np.float32)
    images[0, 0] = np.kron(np.arange(16).reshape(4, 4), np.ones((2, 2)))
    mixed = images_without_cells(images)["mixed pieces"][0, 0]
    pieces = mixed.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 4)
    assert (pieces == pieces[:, :1]).all()
    assert sorted(pieces[:, 0].tolist()) == list(range(16))
