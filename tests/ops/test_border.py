"""The grey level around a cell."""

from __future__ import annotations

import numpy as np
import pytest

from fastcell.ops.border import border_median


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (2, 2), (2, 5), (3, 3), (20, 31)])
def test_each_pixel_of_the_frame_counts_once(shape: tuple[int, int], dtype: type) -> None:
    for seed in range(20):
        image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        inner = np.zeros(shape, bool)
        inner[1:-1, 1:-1] = True
        assert border_median(image) == float(np.median(image[~inner]))


def test_two_values_in_the_middle_are_averaged() -> None:
    assert border_median(np.array([[10, 20], [254, 255]], np.uint8)) == 137.0
