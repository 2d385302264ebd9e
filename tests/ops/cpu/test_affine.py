"""Parts of the general map: the ring of zeros, the range of the short coordinates, samples of any map."""

import numpy as np
import pytest
from numba import njit
from scipy.ndimage import map_coordinates

from fastcell.ops.cpu.affine import _inside, _stack_rows, fits_q20, sample_large


@njit
def _stack(source, height, width, pairs):
    _stack_rows(source, height, width, pairs)


@pytest.mark.parametrize(("dtype", "wide"), [(np.uint8, np.uint16), (np.uint16, np.uint32)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1), (3, 5)])
def test_each_pixel_lies_beside_the_one_below_in_a_ring_of_zeros(shape, dtype, wide):
    height, width = shape
    image = np.random.default_rng(0).integers(1, np.iinfo(dtype).max, shape).astype(dtype)
    pairs = np.full((height + 2) * (width + 1) + 2, 77, wide)
    _stack(image.ravel(), height, width, pairs)
    ring = np.zeros((height + 3, width + 2), np.uint64)
    ring[1 : height + 1, 1 : width + 1] = image
    for y in range(height + 1):
        for x in range(width + 2):
            want = int(ring[y, x]) | int(ring[y + 1, x]) << 8 * image.itemsize
            assert int(pairs[y * (width + 1) + x]) == want


@njit
def _fits(matrix, size, height, width):
    return fits_q20(matrix, size, height, width)


def test_short_coordinates_reach_2046_pixels():
    matrix = np.array([[1.0, 0.5, 0.0], [-0.5, 1.0, 0.0]])
    assert _fits(matrix, 128, 2045, 10)
    assert not _fits(matrix, 128, 2046, 10)
    assert not _fits(matrix, 128, 10, 2046)
    matrix[0, 2] = 2046 - 192
    assert _fits(matrix, 128, 10, 10)
    matrix[0, 2] += 0.001
    assert not _fits(matrix, 128, 10, 10)
    matrix[0, 2], matrix[1, 2] = 0.0, -2046 + 63.9
    assert not _fits(matrix, 128, 10, 10)


@njit
def _range(at, step, limit, size):
    return _inside(at, step, limit, size)


def test_the_part_of_a_row_that_lies_inside():
    rng = np.random.default_rng(1)
    for at, step in [(0, 0), (-1, 0), (31, 0), *rng.integers(-40, 40, (300, 2)).tolist()]:
        first, last = _range(at, step, 30, 20)
        assert [x for x in range(20) if 0 <= at + x * step <= 30] == list(range(first, last))


@njit
def _sample(source, height, width, matrix, scale_x, scale_y, fill, image):
    sample_large(source, height, width, matrix, scale_x, scale_y, fill, image)


@pytest.mark.parametrize("fill", [np.nan, 40.0])
def test_samples_of_grey_levels_with_larger_pixels_agree_with_scipy(fill):
    source = np.random.default_rng(2).uniform(0, 255, (13, 17)).astype(np.float32)
    matrix = np.array([[1.3, 0.4, -2.0], [-0.3, 1.1, 3.0]])
    image = np.empty((24, 24), np.float32)
    _sample(source.ravel(), 13, 17, matrix, 2.0, 1.5, np.float32(fill), image)
    x, y = np.meshgrid(np.arange(24) + 0.5, np.arange(24) + 0.5)
    at = [(matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2]) / (2.0, 1.5)[i] - 0.5 for i in (1, 0)]
    mode = {"mode": "nearest"} if np.isnan(fill) else {"mode": "grid-constant", "cval": fill}
    want = map_coordinates(source.astype(np.float64), at, order=1, prefilter=False, **mode)
    np.testing.assert_allclose(image, want, atol=1e-3)
