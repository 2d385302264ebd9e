"""What is measured on a cell's own pixels, against numpy."""

import numpy as np
import pytest

from fastcell.quality.features import FEATURES
from fastcell.quality.loops import columns
from fastcell.quality.loops.grid import SIDE
from fastcell.quality.loops.pixels import measure_pixels


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (20, 31)])
def test_levels_of_a_cell(shape):
    image = np.random.default_rng(3).integers(0, 4, shape).astype(np.uint8) * 85
    grids, out = np.empty((1, SIDE, SIDE), np.float32), np.zeros((1, len(FEATURES)), np.float32)
    sides = (np.array([side], np.int32) for side in shape)
    measure_pixels(image.ravel(), np.zeros(1, np.int64), *sides, grids, out)
    inner = np.zeros(shape, bool)
    inner[1:-1, 1:-1] = True
    frame = np.sort(image[~inner].astype(int))
    middle = frame[(len(frame) - 1) // 2]
    away = np.sort(np.abs(frame - middle))[(len(frame) - 1) // 2]
    want = {
        columns.HEIGHT: shape[0],
        columns.WIDTH: shape[1],
        columns.MEAN_INTENSITY: image.mean(),
        columns.SATURATED_LOW: (image == 0).mean(),
        columns.SATURATED_HIGH: (image == 255).mean(),
        columns.BACKGROUND: middle,
        columns.BACKGROUND_SPREAD: 1.4826 * away,
    }
    np.testing.assert_allclose(out[0, list(want)], list(want.values()), rtol=1e-6)
