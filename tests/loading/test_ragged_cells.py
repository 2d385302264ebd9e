"""A batch knows the size of its cells; views of pixels are the cells, without a copy."""

import numpy as np
import pytest
import torch

from fastcell.loading.ragged_cells import PixelViews, RaggedCells

HEIGHTS, WIDTHS = np.array([2, 3], np.int32), np.array([5, 1], np.int32)


def test_sizes_count_the_depth():
    for depth in (8, 16):
        cells = RaggedCells(np.array([4, 5]), HEIGHTS, WIDTHS, [], None, depth)
        assert len(cells) == 2
        assert cells.num_bytes.tolist() == [10 * depth // 8, 3 * depth // 8]


@pytest.mark.parametrize("memory", [np.arange(20, dtype=np.uint16), torch.arange(20, dtype=torch.uint8)])
def test_views_are_the_cells(memory):
    views = PixelViews(memory, np.array([7, 1]), HEIGHTS, WIDTHS)
    assert len(views) == 2
    assert [cell.shape for cell in views] == [(2, 5, 1), (3, 1, 1)]
    assert np.asarray(views[0]).ravel().tolist() == list(range(7, 17))
    views[1][2, 0, 0] = 99
    assert int(memory[3]) == 99
    with pytest.raises(IndexError):
        views[2]
