"""Memory for decoded cells: made, written on a stream of its own where there is a GPU, and read as `Cells`."""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fastcell.errors import FastcellError
from fastcell.loading.stores.stream import Cells
from fastcell.ops.cpu.copy import copy_cells

_IN_FLIGHT = 4


def empty_pool(num_pixels: int, depth: int, memory: str, device: torch.device) -> torch.Tensor:
    """Memory for pixels, one dimension, not written yet.

    Args:
        num_pixels: how many.
        depth: 8 for uint8, 16 for uint16.
        memory: ``host``, ``pinned`` or ``gpu``.
        device: of ``gpu``.
    """
    dtype = torch.uint8 if depth == 8 else torch.uint16
    pool = torch.empty(num_pixels, dtype=dtype, device=device if memory == "gpu" else None)
    if memory == "pinned" and num_pixels:
        _pin(pool, device)
    return pool


def _pin(pool: torch.Tensor, device: torch.device) -> None:
    """Lock the pages of a tensor in memory until it goes away.

    Torch's own pinned memory is rounded up to a power of two and never given back, which a large pool cannot afford.
    """
    runtime, address = torch.cuda.cudart(), pool.data_ptr()
    with torch.cuda.device(device):
        status = int(runtime.cudaHostRegister(address, pool.numel() * pool.element_size(), 0))
    if status != 0:
        raise FastcellError(
            f"{pool.numel() * pool.element_size():,} bytes of host memory must be free to be pinned, got CUDA error "
            f"{status}. Lower --data.bank_gib, or take --data.store stream."
        )

    def unpin() -> None:
        torch.cuda.synchronize(device)
        runtime.cudaHostUnregister(address)

    weakref.finalize(pool, unpin)


def pool_cells(
    pool: torch.Tensor, cell_ids: np.ndarray, offsets: np.ndarray, heights: np.ndarray, widths: np.ndarray
) -> Cells:
    """Cells that lie in a pool, without a copy.

    Args:
        pool: one dimension, uint8 or uint16.
        cell_ids: (B,) int64.
        offsets: (B,) int64, first pixel of each cell in the pool.
        heights, widths: (B,) int32.
    """
    item = pool.element_size()
    addresses = None if pool.is_cuda else pool.data_ptr() + offsets * item
    pixels = _PoolPixels(pool, offsets, heights, widths)
    return Cells(cell_ids, heights, widths, pixels, addresses, 8 * item, pool, offsets)


class _PoolPixels(Sequence[Any]):
    """Cells of a pool, (H, W, 1) each: NumPy arrays, or tensors where the pool is on a GPU; cut out when asked for."""

    def __init__(self, pool: torch.Tensor, offsets: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> None:
        self._pool = pool if pool.is_cuda else pool.numpy()
        self._offsets, self._heights, self._widths = offsets, heights, widths

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, slot: Any) -> Any:
        begin, height, width = (int(column[slot]) for column in (self._offsets, self._heights, self._widths))
        return self._pool[begin : begin + height * width].reshape(height, width, 1)


class PoolWriter:
    """Writes cells one behind the other.

    Args:
        pool: one dimension, uint8 or uint16; on the GPU, pinned, or plain memory.
        device: that reads the pool later.
        stream: of a GPU's copies; None for one of its own.
    """

    def __init__(self, pool: torch.Tensor, device: torch.device, stream: torch.cuda.Stream | None = None) -> None:
        self._pool, self._device = pool, device
        self._stream = stream
        if stream is None and device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))  # where the pool's memory was used before
            if pool.is_cuda:
                pool.record_stream(self._stream)
        self._in_flight: deque[tuple[torch.cuda.Event, Any]] = deque()

    def write(self, cells: Cells, at: int) -> torch.cuda.Event | None:
        """Copy all of `cells` to pixel `at` of the pool and those behind it.

        Returns:
            What a stream must wait for before it reads them; None where they are there already.
        """
        size = int(cells.num_bytes.sum()) // self._pool.element_size()
        target = self._pool[at : at + size]
        if self._stream is None:
            assert cells.addresses is not None
            copy_cells(cells.addresses, cells.num_bytes, target.view(torch.uint8).numpy())
            return None
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
        """Wait for all copies and let go of what they came from."""
        while self._in_flight:
            self._in_flight.popleft()[0].synchronize()

    def wait_for(self, event: torch.cuda.Event) -> None:
        """Have the copies that follow wait for `event`: the place they go to is read until then."""
        assert self._stream is not None
        self._stream.wait_event(event)

    def _from_host(self, cells: Cells, target: torch.Tensor) -> Any:
        assert cells.addresses is not None
        if target.device.type == "cpu":  # pinned: the copy is done when it returns
            copy_cells(cells.addresses, cells.num_bytes, target.view(torch.uint8).numpy())
            return None
        staging = torch.empty(target.numel(), dtype=target.dtype, pin_memory=True)
        copy_cells(cells.addresses, cells.num_bytes, staging.view(torch.uint8).numpy())
        target.copy_(staging, non_blocking=True)
        return staging

    def _from_gpu(self, cells: Cells, target: torch.Tensor) -> Any:
        assert self._stream is not None
        on_gpu = target if target.is_cuda else torch.empty(target.numel(), dtype=target.dtype, device=self._device)
        if hasattr(cells.pixels, "copy_to_external"):  # a whole batch of DALI's, sample behind sample
            stream = ctypes.c_void_p(self._stream.cuda_stream)
            pointer = ctypes.c_void_p(on_gpu.data_ptr())
            cells.pixels.copy_to_external(pointer, stream, non_blocking=True, use_copy_kernel=True)
        else:
            for pixels, piece in zip(cells.pixels, on_gpu.split(_sizes(cells)), strict=True):
                piece.copy_(torch.from_dlpack(pixels).reshape(-1), non_blocking=True)
        if target is not on_gpu:
            target.copy_(on_gpu, non_blocking=True)
        return cells, on_gpu


def _sizes(cells: Cells) -> list[int]:
    sizes: list[int] = (cells.heights.astype(np.int64) * cells.widths).tolist()
    return sizes
