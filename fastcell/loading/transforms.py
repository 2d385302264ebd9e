"""Transforms: ragged grey cells to normalised square images, by two equivalent implementations.

``fused``  one compiled pass over each cell: `fastcell.ops.cpu.transform` on the CPU, ``kernels/transform.cu`` on GPU.
``dali``   DALI operators (`warp_affine`, `gaussian_blur`, `noise.gaussian`), then `fastcell.ops.normalize`; CPU or GPU.

Both map a cell by the same matrix in one interpolation, so they agree except for rounding and for the generator of the
noise: ``fused`` draws it from (seed, epoch, position), ``dali`` from (seed, epoch, rank) in the order of the stream.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal, get_args

import numpy as np
import torch

from fastcell.errors import invalid
from fastcell.loading.geometry import Geometry, Transform
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.stores.pixel_pool import PoolWriter, empty_pool
from fastcell.ops.constants import GPU_IMAGE_SIZES, GPU_SIZES_RULE
from fastcell.ops.cpu.transform import transform_cells
from fastcell.ops.transform import CellPool, make_clock

TransformName = Literal["auto", "fused", "dali"]

TRANSFORMS: tuple[TransformName, ...] = get_args(TransformName)


def resolve_transform(name: str, preprocessing: Preprocessing, device_id: int | None) -> str:
    """Return the transform to use. ``auto`` means fused, or dali if the GPU kernel does not support this image size.

    Args:
        name: ``auto``, ``fused`` or ``dali``.
        preprocessing: preprocessing of the images.
        device_id: GPU, or None for the CPU.

    Raises:
        ArgumentError: `name` is unknown, or it is ``fused`` and the GPU kernel lacks the image size.
    """
    if name not in TRANSFORMS:
        raise invalid("transform", f"one of {', '.join(TRANSFORMS)}", name, "Leave it at auto")
    if device_id is None:
        return "fused" if name == "auto" else name
    fits = preprocessing.image_size in GPU_IMAGE_SIZES
    if name == "fused" and not fits:
        raise invalid("image_size", GPU_SIZES_RULE, preprocessing.image_size, "Leave transform at auto")
    return "fused" if name == "auto" and fits else "dali" if name == "auto" else name


class FusedTransform:
    """Transform with one pass of compiled code per cell, on the CPU.

    Args:
        geometry: affine map, grey level outside and augmentation of each cell.
        epoch: epoch of the augmentation.
        dtype: dtype of the images.
        threads: number of threads that share a batch; the result does not depend on it.
    """

    def __init__(
        self, geometry: Geometry, epoch: int = 0, dtype: torch.dtype = torch.float32, threads: int = 1
    ) -> None:
        self.geometry, self.epoch, self.dtype, self.threads = geometry, epoch, dtype, threads

    def __call__(self, cells: RaggedCells, positions: np.ndarray) -> torch.Tensor:
        values = self.geometry.preprocessing
        drawn = self.geometry.draw(self.epoch, positions)
        zeros = np.zeros(len(cells), np.float32)
        # Other threads change torch's default dtype: Lightning does in bf16-true, for as long as a step takes.
        images = torch.empty((len(cells), 1, values.image_size, values.image_size), dtype=torch.float32)
        assert cells.addresses is not None
        transform_cells(
            cells.addresses,
            cells.heights,
            cells.widths,
            self.geometry.matrices(cells, drawn),
            self.geometry.fill(cells),
            zeros if drawn is None else drawn.blur_sigma,
            zeros if drawn is None else drawn.noise_std,
            zeros.astype(np.uint64) if drawn is None else drawn.noise_seed,
            images.numpy(),
            values.normalization,
            self.threads,
            values.antialias,
            dtype=np.uint8 if cells.depth == 8 else np.uint16,
        )
        return images if self.dtype == torch.float32 else images.to(self.dtype)


class FusedGpuTransform:
    """Transform with one launch of ``kernels/transform.cu`` per batch, on the current stream, without synchronisation.

    Cells that are not yet in a pool are copied into one first, inside the GPU or over the bus.

    Args:
        geometry: affine map, grey level outside and augmentation of each cell.
        epoch: epoch of the augmentation.
        dtype: dtype of the images.
        device: the GPU.
    """

    def __init__(self, geometry: Geometry, epoch: int, dtype: torch.dtype, device: torch.device) -> None:
        self.geometry, self.epoch, self.dtype, self.device = geometry, epoch, dtype, device
        self._clock: torch.Tensor | None = None
        self._lent: deque[tuple[torch.cuda.Event, Any]] = deque()

    def __call__(self, cells: RaggedCells, positions: np.ndarray) -> torch.Tensor:
        if self._clock is None:
            self._clock = to_device(make_clock(self.geometry.seed, self.epoch).numpy(), self.device)
        pixels, offsets = cells.pool, cells.offsets
        if pixels is None:
            sizes = cells.num_bytes // (cells.depth // 8)
            offsets = np.cumsum(sizes) - sizes
            pixels = empty_pool(int(sizes.sum()), cells.depth, "gpu", self.device)
            PoolWriter(pixels, self.device, torch.cuda.current_stream(self.device)).write(cells, 0)
        assert offsets is not None
        border, um_per_px = self.geometry.columns(cells.cell_ids)

        def send(values: np.ndarray) -> torch.Tensor:
            return to_device(values, self.device)

        pool = CellPool(
            pixels,
            send(offsets),
            send(cells.heights),
            send(cells.widths),
            None if border is None else send(border),
            None if um_per_px is None else send(um_per_px),
        )
        index, position = send(np.arange(len(cells))), send(positions)
        images = self.geometry.transform(pool, index, position, self._clock, self.dtype)
        stream = torch.cuda.current_stream(self.device)
        while self._lent and self._lent[0][0].query():
            self._lent.popleft()
        self._lent.append((stream.record_event(), (cells, pixels)))
        return images


def to_device(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return a tensor of the values on a device; to a GPU they are copied through pinned memory, without waiting."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor if device.type != "cuda" else tensor.pin_memory().to(device, non_blocking=True)


def make_transform(
    name: str,
    geometry: Geometry,
    *,
    epoch: int,
    batch: int,
    dtype: torch.dtype,
    threads: int,
    device_id: int | None,
    rank: int,
) -> Transform:
    """Create the transform of one epoch.

    The other arguments are those of the transform classes.

    Args:
        name: ``auto``, ``fused`` or ``dali`` (see `resolve_transform`).

    Raises:
        ArgumentError: `name` is unknown, or it is ``fused`` and the GPU kernel lacks the image size.
    """
    name = resolve_transform(name, geometry.preprocessing, device_id)
    if name == "dali":
        from fastcell.loading.transform_dali import DaliTransform  # loads DALI

        return DaliTransform(geometry, epoch, batch, dtype, threads, device_id, rank)
    if device_id is not None:
        return FusedGpuTransform(geometry, epoch, dtype, torch.device("cuda", device_id))
    return FusedTransform(geometry, epoch, dtype, threads)
