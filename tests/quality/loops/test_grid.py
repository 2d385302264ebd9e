"""Cells on the grid, against OpenCV; levels counted in bins."""

import cv2
import numpy as np
import pytest
from numba import njit

from fastcell.quality.features import FEATURES
from fastcell.quality.loops.grid import BIN, BINS, bin_of, level_at
from fastcell.quality.loops.pixels import measure_pixels


@pytest.mark.parametrize("shape", [(96, 128), (200, 64), (64, 301), (65, 70), (128, 640)])
def test_the_grid_is_opencvs_area_average(shape):
    image = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    grid, out = np.empty((1, 64, 64), np.float32), np.empty((1, len(FEATURES)), np.float32)
    size = (np.array([shape[0]], np.int32), np.array([shape[1]], np.int32))
    measure_pixels(image.ravel(), np.zeros(1, np.int64), *size, grid, out)
    expected = cv2.resize(image.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(grid[0], expected, atol=0.01)


def test_small_images_are_interpolated():
    image = np.random.default_rng(3).integers(0, 256, (18, 11), np.uint8)
    grid, out = np.empty((1, 64, 64), np.float32), np.empty((1, len(FEATURES)), np.float32)
    size = (np.array([18], np.int32), np.array([11], np.int32))
    measure_pixels(image.ravel(), np.zeros(1, np.int64), *size, grid, out)
    expected = cv2.resize(image.astype(np.float32), (64, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(grid[0], expected, atol=0.1)


@njit
def _levels(values, rank):
    counts = np.zeros(BINS, np.int64)
    for value in values:
        counts[bin_of(value)] += 1
    return level_at(counts, rank)


def test_a_level_is_that_of_the_sorted_values():
    values = np.random.default_rng(0).uniform(0, 300, 999).astype(np.float32)
    for rank in (0, 1, 499, 998):
        assert _levels(values, rank) == int(np.sort(values)[rank] / BIN)
    assert _levels(values, 999) == BINS - 1  # there are no more
    assert _levels(np.array([1e6], np.float32), 0) == BINS - 1
