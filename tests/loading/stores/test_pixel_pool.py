"""Memory of a pool: written cell behind cell, read as the same cells."""

import contextlib
import gc
import mmap

import numpy as np
import pytest
import torch

from fastcell.errors import FastcellError
from fastcell.loading.stores.pixel_pool import PoolWriter, empty_pool, pool_cells

SIDES = [(2, 3), (5, 4), (1, 7)]


OFFSETS = np.array([10, 16, 36])


HEIGHTS, WIDTHS = (np.array(side, np.int32) for side in zip(*SIDES, strict=True))


def filled(depth):
    pool = empty_pool(60, depth, "host", torch.device("cpu"))
    values = np.arange(60) * (1 if depth == 8 else 1000)
    pool.copy_(torch.from_numpy(values.astype(np.uint8 if depth == 8 else np.uint16)))
    return pool


@pytest.mark.parametrize(("depth", "dtype"), [(8, torch.uint8), (16, torch.uint16)])
def test_memory_of_the_host(depth, dtype):
    pool = empty_pool(60, depth, "host", torch.device("cpu"))
    assert (pool.dtype, pool.shape, pool.device.type) == (dtype, (60,), "cpu")
    assert empty_pool(0, depth, "pinned", torch.device("cuda")).numel() == 0


@pytest.mark.parametrize("depth", [8, 16])
def test_cells_are_views_of_the_pool(depth):
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
def test_cells_are_written_one_behind_the_other(depth):
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


class FakeRuntime:
    """The CUDA runtime as far as pinning needs it: refuses a page twice, and leaves an error behind a failure."""

    def __init__(self, status=0):
        self.status, self.pinned, self.error = status, {}, 0
        self.pages = set()

    def cudaHostRegister(self, address, num_bytes, flags):  # CUDA's name
        pages = set(range(address // mmap.PAGESIZE, -(-(address + num_bytes) // mmap.PAGESIZE)))
        if self.status or pages & self.pages:
            self.error = self.status or 712
            return self.error
        self.pages |= pages
        self.pinned[address] = pages
        return 0

    def cudaHostUnregister(self, address):  # CUDA's name
        self.pages -= self.pinned.pop(address)
        return 0


@pytest.fixture
def pin_with(monkeypatch):
    def use(runtime):
        ones = torch.ones

        def launch(*size, device=None):
            error, runtime.error = runtime.error, 0
            if error:
                raise RuntimeError(f"CUDA error: {error}")
            return ones(*size)

        monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
        monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
        monkeypatch.setattr(torch, "ones", launch)

    return use


@pytest.mark.parametrize(("depth", "dtype"), [(8, torch.uint8), (16, torch.uint16)])
def test_pinned_pools_share_no_page(depth, dtype, pin_with):
    pin_with(runtime := FakeRuntime())
    pools = [empty_pool(number, depth, "pinned", torch.device("cuda", 0)) for number in (1, 10, 5000, 4096, 1)]
    assert [pool.numel() for pool in pools] == [1, 10, 5000, 4096, 1]
    assert all(pool.dtype == dtype and pool.data_ptr() % mmap.PAGESIZE == 0 for pool in pools)
    for number, pool in enumerate(pools):
        pool.fill_(number)
    assert [set(pool.tolist()) for pool in pools] == [{number} for number in range(5)]
    assert len(runtime.pinned) == 5
    del pool, pools
    gc.collect()
    assert not runtime.pages


def test_a_refused_pin_leaves_no_error_for_later_calls(pin_with):
    pin_with(runtime := FakeRuntime(status=2))
    with pytest.raises(
        FastcellError, match=r"8,192 bytes of host memory must be free to be pinned, got CUDA error 2\."
    ):
        empty_pool(5000, 8, "pinned", torch.device("cuda", 0))
    assert runtime.error == 0
    torch.ones(1, device="cuda")  # would raise
