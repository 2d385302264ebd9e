"""The grey level around a cell."""

import numpy as np
import pytest

from fastcell.ops.border import border_median, outside_levels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (2, 2), (2, 5), (3, 3), (20, 31)])
def test_each_pixel_of_the_frame_counts_once(shape, dtype):
    for seed in range(20):
        image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        inner = np.zeros(shape, bool)
        inner[1:-1, 1:-1] = True
        assert border_median(image) == float(np.median(image[~inner]))


def test_two_values_in_the_middle_are_averaged():
    assert border_median(np.array([[10, 20], [254, 255]], np.uint8)) == 137.0


def test_outside_of_a_cell_is_its_border_but_under_stretch():
    medians = np.array([3.5, 200.0])
    for fit in ("contain", "scale"):
        levels = outside_levels(medians, fit)
        assert levels.dtype == np.float32
        assert levels.tolist() == [3.5, 200.0]
    assert outside_levels(medians, "stretch") is None


@pytest.mark.parametrize(
    ("pixels", "border"),
    [([[1, 2, 3, 4]], 2.5), ([[1], [9], [3]], 3), ([[1, 2], [3, 4]], 2.5), ([[0, 0, 0], [0, 9, 8], [7, 6, 5]], 2.5)],
)
def test_border_median_counts_each_pixel_once(pixels, border):
    assert border_median(np.array(pixels, np.uint8)) == border
