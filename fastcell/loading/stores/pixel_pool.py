"""Memory for decoded cells: allocation, writing (on a GPU with a separate stream), and reading as `RaggedCells`."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import weakref
from collections import deque
from typing import Any

import numpy as np
import torch

from fastcell.errors import FastcellError
from fastcell.loading.ragged_cells import PixelViews, RaggedCells
from fastcell.ops.cpu.copy import copy_cells

_IN_FLIGHT = 4


def empty_pool(num_pixels: int, depth: int, memory: str, device: torch.device) -> torch.Tensor:
    """Return uninitialised memory for pixels, one dimension.

    Args:
        num_pixels: number of pixels.
        depth: 8 for uint8, 16 for uint16.
        memory: ``host``, ``pinned`` or ``gpu``.
        device: device of the memory if that is ``gpu``.
    """
    dtype = torch.uint8 if depth == 8 else torch.uint16
    if memory == "pinned" and num_pixels:
        return _pinned(num_pixels, dtype, device)
    return torch.empty(num_pixels, dtype=dtype, device=device if memory == "gpu" else None)


def _pinned(num_pixels: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return memory of whole pages that stays pinned until the tensor is freed.

    Torch's own pinned memory is rounded up to a power of two and never returned, which a large pool cannot afford.
    CUDA refuses a page that is already pinned, so the memory shares none with another allocation.

    Raises:
        FastcellError: CUDA cannot pin that much host memory. Later CUDA calls are not affected.
    """
    num_bytes = -(-num_pixels * dtype.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = torch.empty(num_bytes + mmap.PAGESIZE, dtype=torch.uint8)
    begin = -memory.data_ptr() % mmap.PAGESIZE
    pool = memory[begin : begin + num_pixels * dtype.itemsize].view(dtype)
    runtime, address = torch.cuda.cudart(), pool.data_ptr()
    with torch.cuda.device(device):
        status = int(runtime.cudaHostRegister(address, num_bytes, 0))
    if status != 0:
        _clear_cuda_error(device)
        raise FastcellError(
            f"{num_bytes:,} bytes of host memory must be free to be pinned, got CUDA error {status}. "
            "Lower --data.bank_gib, or take --data.store stream."
        )

    def unpin() -> None:
        torch.cuda.synchronize(device)
        runtime.cudaHostUnregister(address)

    weakref.finalize(pool, unpin)
    return pool


def pinned_bytes(num: int) -> np.ndarray:
    """Return uninitialised memory of the host, (num,) uint8, that a GPU reads over the bus.

    It is torch's own pinned memory, which is used again once the array is dropped.
    """
    return torch.empty(num, dtype=torch.uint8, pin_memory=True).numpy()


def _clear_cuda_error(device: torch.device) -> None:
    """Launch a kernel, which reports and clears the error that a failed CUDA call has left behind."""
    with contextlib.suppress(RuntimeError):
        torch.ones(1, device=device)


def pool_cells(
    pool: torch.Tensor, cell_ids: np.ndarray, offsets: np.ndarray, heights: np.ndarray, widths: np.ndarray
) -> RaggedCells:
    """Return cells that lie in a pool, without a copy.

    Args:
        pool: one dimension, uint8 or uint16.
        cell_ids: (B,) int64.
        offsets: (B,) int64, first pixel of each cell in the pool.
        heights, widths: (B,) int32 [px].
    """
    item = pool.element_size()
    addresses = None if pool.is_cuda else pool.data_ptr() + offsets * item
    pixels = PixelViews(pool if pool.is_cuda else pool.numpy(), offsets, heights, widths)
    return RaggedCells(cell_ids, heights, widths, pixels, addresses, 8 * item, pool, offsets)


class PoolWriter:
    """Writer of cells to a pool, one after another.

    Args:
        pool: one dimension, uint8 or uint16; on the GPU, pinned, or plain memory.
        device: device that reads the pool later.
        stream: stream of the GPU copies; None creates one.
    """

    def __init__(self, pool: torch.Tensor, device: torch.device, stream: torch.cuda.Stream | None = None) -> None:
        self._pool, self._device = pool, device
        self._stream = stream
        if stream is None and device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))  # which may have used the pool's memory before
            if pool.is_cuda:
                pool.record_stream(self._stream)
        self._in_flight: deque[tuple[torch.cuda.Event, Any]] = deque()

    def write(self, cells: RaggedCells, at: int) -> torch.cuda.Event | None:
        """Copy all of `cells` to the pool, starting at pixel `at`.

        Returns:
            Event that a stream must wait for before it reads the cells; None if they are already available.
        """
        size = int(cells.num_bytes.sum()) // self._pool.element_size()
        target = self._pool[at : at + size]
        if self._stream is None:
            assert cells.addresses is not None
            copy_cells(cells.addresses, cells.num_bytes, target.view(torch.uint8).numpy())
            return None
        if cells.addresses is None:  # decoded on the caller's stream
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            if cells.addresses is not None:
                kept = self._from_host(cells, target)
            else:
                kept = self._from_gpu(cells, target)
            event = self._stream.record_event()
        self._in_flight.append((event, kept))
        while len(self._in_flight) > _IN_FLIGHT:
            self._in_flight.popleft()[0].synchronize()
        return event

    def finish(self) -> None:
        """Wait for all copies and release their sources."""
        while self._in_flight:
            self._in_flight.popleft()[0].synchronize()

    def _from_host(self, cells: RaggedCells, target: torch.Tensor) -> Any:
        assert cells.addresses is not None
        if target.device.type == "cpu":  # host or pinned: the copy is complete on return
            copy_cells(cells.addresses, cells.num_bytes, target.view(torch.uint8).numpy())
            return None
        staging = torch.empty(target.numel(), dtype=target.dtype, pin_memory=True)
        copy_cells(cells.addresses, cells.num_bytes, staging.view(torch.uint8).numpy())
        target.copy_(staging, non_blocking=True)
        return staging

    def _from_gpu(self, cells: RaggedCells, target: torch.Tensor) -> Any:
        assert self._stream is not None
        on_gpu = target if target.is_cuda else torch.empty(target.numel(), dtype=target.dtype, device=self._device)
        if hasattr(cells.pixels, "copy_to_external"):  # a whole DALI batch, its samples one after the other
            stream = ctypes.c_void_p(self._stream.cuda_stream)
            pointer = ctypes.c_void_p(on_gpu.data_ptr())
            cells.pixels.copy_to_external(pointer, stream, non_blocking=True, use_copy_kernel=True)
        else:
            for pixels, piece in zip(cells.pixels, on_gpu.split(_sizes(cells)), strict=True):
                piece.copy_(torch.from_dlpack(pixels).reshape(-1), non_blocking=True)
        if target is not on_gpu:
            target.copy_(on_gpu, non_blocking=True)
        return cells, on_gpu


def _sizes(cells: RaggedCells) -> list[int]:
    sizes: list[int] = (cells.heights.astype(np.int64) * cells.widths).tolist()
    return sizes
