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


SIDES = [(2, 3), (5, 4), (1, 7)]


OFFSETS = np.array([10, 16, 36])


HEIGHTS, WIDTHS = (np.array(side, np.int32) for side in zip(*SIDES, strict=True))


def filled(depth: int) -> torch.Tensor:
    pool = empty_pool(60, depth, "host", torch.device("cpu"))
    values = np.arange(60) * (1 if depth == 8 else 1000)
    pool.copy_(torch.from_numpy(values.astype(np.uint8 if depth == 8 else np.uint16)))
    return pool


@pytest.mark.parametrize(("depth", "dtype"), [(8, torch.uint8), (16, torch.uint16)])
def test_memory_of_the_host(depth: int, dtype: torch.dtype) -> None:
    pool = empty_pool(60, depth, "host", torch.device("cpu"))
    assert (pool.dtype, pool.shape, pool.device.type) == (dtype, (60,), "cpu")
    assert empty_pool(0, depth, "pinned", torch.device("cuda")).numel() == 0


@pytest.mark.parametrize("depth", [8, 16])
def test_cells_are_views_of_the_pool(depth: int) -> None:
    pool = filled(depth)
    cells = pool_cells(pool, np.array([7, 3, 9]), OFFSETS, HEIGHTS, WIDTHS)
    assert cells.cell_ids.tolist() == [7, 3, 9]
    assert (len(cells.pixels), cells.depth) == (3, depth)
    expected = pool.numpy()
    for pixels, offset, (height, width) in zip(cells.pixels, OFFSETS, SIDES, strict=True):
        assert pixels.shape == (height, width, 1)
        assert pixels.ravel().tolist() == expected[offset : offset + height * width].tolist()
    assert (cells.addresses - pool.data_ptr()).tolist() == (OFFSETS * depth // 8).tolist()
    pool[10] = 77
    assert cells.pixels[0][0, 0, 0] == 77  # no copy


@pytest.mark.parametrize("depth", [8, 16])
def test_cells_are_written_one_behind_the_other(depth: int) -> None:
    source = filled(depth)
    order = [2, 0, 1]
    cells = pool_cells(source, np.array(order), OFFSETS[order], HEIGHTS[order], WIDTHS[order])
    target = empty_pool(50, depth, "host", torch.device("cpu"))
    target.zero_()
    writer = PoolWriter(target, torch.device("cpu"))
    assert writer.write(cells, 5) is None  # there already
    writer.finish()
    values = source.numpy()
    pieces = [values[OFFSETS[i] : OFFSETS[i] + HEIGHTS[i] * WIDTHS[i]] for i in order]
    written = np.concatenate(pieces).tolist()
    assert target.numpy()[5 : 5 + len(written)].tolist() == written
    assert not target.numpy()[:5].any()
    assert not target.numpy()[5 + len(written) :].any()
