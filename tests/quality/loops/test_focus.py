"""Both measures of sharpness against numpy."""

import numpy as np
from numba import njit

from fastcell.quality.loops.focus import laplacian_variance, sharpness
from fastcell.quality.loops.grid import BIN, BINS, SIDE


@njit
def _laplacian(source, height, width):
    return laplacian_variance(source, height, width)


@njit
def _sharp(grid, contrast, counts):
    return sharpness(grid, contrast, counts)


def test_variance_of_the_laplacian():
    image = np.random.default_rng(0).integers(0, 256, (13, 29), np.uint8)
    grey = image.astype(np.float64)
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    np.testing.assert_allclose(_laplacian(image.ravel(), 13, 29), laplacian.var(), rtol=1e-12)
    assert _laplacian(image.ravel(), 2, 188) == 0.0


def test_sharpness_is_a_quantile_of_the_slopes():
    grid = np.random.default_rng(1).uniform(0, 255, (SIDE, SIDE)).astype(np.float32)
    down, across = (grid[2:, 1:-1] - grid[:-2, 1:-1]) / 2, (grid[1:-1, 2:] - grid[1:-1, :-2]) / 2
    slopes = np.sort(np.hypot(down, across), axis=None)
    steep = slopes[int(0.995 * slopes.size)]
    found = _sharp(grid, 50.0, np.empty(BINS, np.int32))
    np.testing.assert_allclose(found * 50, steep, atol=BIN)
    assert _sharp(np.full((SIDE, SIDE), 9, np.float32), 0.0, np.empty(BINS, np.int32)) == 0.5 * BIN
