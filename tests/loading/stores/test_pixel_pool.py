"""Memory of a pool: written cell behind cell, read as the same cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.stores.pixel_pool import PoolWriter, empty_pool, pool_cells

CPU = torch.device("cpu")


@pytest.mark.parametrize(("depth", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_cells_come_back(depth: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 200, (h, w, 1)).astype(dtype) for h, w in ((3, 4), (1, 1), (5, 2))]
    heights, widths = (np.array([cell.shape[axis] for cell in arrays], np.int32) for axis in (0, 1))
    addresses = np.array([cell.ctypes.data for cell in arrays])
    cells = RaggedCells(np.arange(3), heights, widths, arrays, addresses, depth)
    pool = empty_pool(40, depth, "host", CPU)
    assert (pool.numel(), pool.element_size()) == (40, depth // 8)
    pool.zero_()
    writer = PoolWriter(pool, CPU)
    assert writer.write(cells, 6) is None  # there already
    writer.finish()
    assert int(pool[:6].sum()) == int(pool[29:].sum()) == 0
    offsets = np.array([6, 18, 19])
    got = pool_cells(pool, np.array([70, 71, 72]), offsets, heights, widths)
    assert (got.depth, got.cell_ids.tolist(), got.pool is pool) == (depth, [70, 71, 72], True)
    for cell, want in zip(got.pixels, arrays, strict=True):
        np.testing.assert_array_equal(cell, want)
    assert got.addresses is not None
    np.testing.assert_array_equal(got.addresses, pool.data_ptr() + offsets * depth // 8)


def test_a_pool_of_nothing() -> None:
    assert empty_pool(0, 8, "host", CPU).numel() == 0
