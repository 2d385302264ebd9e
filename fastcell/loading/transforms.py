"""Stage 2: ragged grey cells in, normalised square images out, in one of two ways with one meaning.

``fused``  one compiled pass over each cell: `fastcell.ops.cpu.transform` on the CPU, ``kernels/transform.cu`` on GPU.
``dali``   DALI operators (`warp_affine`, `gaussian_blur`, `noise.gaussian`), then `fastcell.ops.normalize`; CPU or GPU.

Both map a cell by the same matrix in one interpolation, so they agree but for rounding and for the generator of the
noise: ``fused`` draws it from (seed, epoch, position), ``dali`` from (seed, epoch, rank) in the order of the stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from fastcell.dataset.manifest import Manifest
from fastcell.errors import invalid
from fastcell.loading import transform_dali
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.stores.pixel_pool import PoolWriter, empty_pool
from fastcell.loading.stores.stream import Cells
from fastcell.ops.augmentation import Augmentation, Draw, draw
from fastcell.ops.cpu.transform import transform_cells
from fastcell.ops.matrices import matrices
from fastcell.ops.normalize import normalize
from fastcell.ops.transform import GPU_IMAGE_SIZES, CellPool, make_clock, transform

TRANSFORMS = ("auto", "fused", "dali")


class Geometry:
    """What is done to each cell of a batch: affine map, grey level outside, augmentation; the same for both transforms.

    Args:
        manifest: of the cells.
        preprocessing: size, fit, scale.
        augmentation: None or `Augmentation.none()` leaves the cells as they are.
        seed: of the augmentation.
    """

    def __init__(
        self, manifest: Manifest, preprocessing: Preprocessing, augmentation: Augmentation | None, seed: int
    ) -> None:
        self.preprocessing = preprocessing
        self.augmentation = None if augmentation is None or augmentation.is_none else augmentation
        self.seed = seed
        self.fills = preprocessing.fit != "stretch"
        self._border = manifest.column("border_median").astype(np.float32) if self.fills else None
        self._um_per_px = manifest.column("um_per_px") if preprocessing.fit == "scale" else None

    def draw(self, epoch: int, positions: np.ndarray) -> Draw | None:
        """The augmentation of the cells at (B,) int64 `positions` of an epoch; None without augmentation."""
        return None if self.augmentation is None else draw(self.augmentation, self.seed, epoch, positions)

    def columns(self, cell_ids: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(B,) float32 each: grey level outside of the cells and micrometres per pixel, None where nobody asks."""
        border = None if self._border is None else self._border[cell_ids]
        return border, None if self._um_per_px is None else self._um_per_px[cell_ids].astype(np.float32)

    def transform(
        self,
        pool: CellPool,
        index: torch.Tensor,
        position: torch.Tensor,
        clock: torch.Tensor,
        dtype: torch.dtype,
        threads: int = 1,
    ) -> torch.Tensor:
        """Images of some cells of a pool that has the columns of `columns` (see `fastcell.ops.transform.transform`)."""
        values = self.preprocessing
        return transform(
            pool,
            index,
            position,
            clock,
            image_size=values.image_size,
            fit=values.fit,
            augmentation=self.augmentation,
            mode=values.normalization,
            scale_um_per_px=values.scale_um_per_px,
            dtype=dtype,
            threads=threads,
        )

    def matrices(self, cells: Cells, drawn: Draw | None) -> np.ndarray:
        """(B, 2, 3) float64, output pixel centre to source point."""
        values = self.preprocessing
        um_per_px = None if self._um_per_px is None else self._um_per_px[cells.cell_ids]
        return matrices(
            cells.heights, cells.widths, values.image_size, values.fit, drawn, values.scale_um_per_px, um_per_px
        )

    def fill(self, cells: Cells) -> np.ndarray:
        """(B,) float32, grey level outside of the cell; NaN where its edge continues."""
        if self._border is None:
            return np.full(len(cells), np.nan, np.float32)
        return self._border[cells.cell_ids]


class Transform(Protocol):
    """A way from cells to images."""

    def __call__(self, cells: Cells, positions: np.ndarray) -> torch.Tensor:
        """Give (B, 1, S, S) images of the cells, which stand at (B,) int64 `positions` of the epoch."""


def resolve_transform(name: str, preprocessing: Preprocessing, device_id: int | None) -> str:
    """What ``auto`` means: fused, but for what its GPU kernel does not do (antialiasing, other sizes).

    Args:
        name: ``auto``, ``fused`` or ``dali``.
        preprocessing: of the images.
        device_id: GPU, or None for the CPU.

    Raises:
        ArgumentError: unknown name, or ``fused`` asked for where it cannot be.
    """
    if name not in TRANSFORMS:
        raise invalid("transform", f"one of {', '.join(TRANSFORMS)}", name, "Leave it at auto")
    if device_id is None:
        return "fused" if name == "auto" else name
    fits = preprocessing.image_size in GPU_IMAGE_SIZES and not preprocessing.antialias
    if name == "fused" and not fits:
        sizes = ", ".join(map(str, GPU_IMAGE_SIZES))
        got = f"image_size {preprocessing.image_size}, antialias {preprocessing.antialias}"
        raise invalid("fused on a GPU", f"of image_size {sizes} without antialias", got, "Leave transform at auto")
    return "fused" if name == "auto" and fits else "dali" if name == "auto" else name


class FusedTransform:
    """One pass of compiled code per cell, on the CPU.

    Args:
        geometry: what is done to each cell.
        epoch: of the augmentation.
        dtype: of the images.
        threads: how many share a batch; the result does not depend on it.
    """

    def __init__(
        self, geometry: Geometry, epoch: int = 0, dtype: torch.dtype = torch.float32, threads: int = 1
    ) -> None:
        self.geometry, self.epoch, self.dtype, self.threads = geometry, epoch, dtype, threads

    def __call__(self, cells: Cells, positions: np.ndarray) -> torch.Tensor:
        values = self.geometry.preprocessing
        drawn = self.geometry.draw(self.epoch, positions)
        zeros = np.zeros(len(cells), np.float32)
        images = torch.empty((len(cells), 1, values.image_size, values.image_size))
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
    """One launch of ``kernels/transform.cu`` per batch, on the stream that is current; nothing waits for the device.

    Cells that do not lie in a pool yet are put into one first, a copy inside the GPU or over the bus.

    Args:
        geometry: what is done to each cell.
        epoch: of the augmentation.
        dtype: of the images.
        device: the GPU.
    """

    def __init__(self, geometry: Geometry, epoch: int, dtype: torch.dtype, device: torch.device) -> None:
        self.geometry, self.epoch, self.dtype, self.device = geometry, epoch, dtype, device
        self._clock: torch.Tensor | None = None
        self._lent: deque[tuple[torch.cuda.Event, Any]] = deque()

    def __call__(self, cells: Cells, positions: np.ndarray) -> torch.Tensor:
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
    """A tensor of the values on a device; copied there through pinned memory, without waiting."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor if device.type != "cuda" else tensor.pin_memory().to(device, non_blocking=True)


class DaliTransform:
    """DALI operators from cells to grey squares, `fastcell.ops.normalize` from there.

    On a GPU all work is put on the stream that is current when an instance is called, and nothing waits for the
    device. What DALI lent is kept until that stream has passed the normalisation.

    With antialiasing the cell is low-pass filtered along its own axes to about the size it gets, then mapped. Without
    rotation, shift or scale that is what ``fused`` does, but for the outermost pixels, where DALI's filter repeats the
    edge; with them it differs by one more interpolation.

    Args:
        geometry: what is done to each cell.
        epoch: of the augmentation.
        batch: cells per call, always the same.
        dtype: of the images.
        threads: of DALI's CPU operators.
        device_id: GPU, or None for DALI's CPU operators.
        rank: for the seed of the noise.
    """

    def __init__(
        self,
        geometry: Geometry,
        epoch: int,
        batch: int,
        dtype: torch.dtype = torch.float32,
        threads: int = 1,
        device_id: int | None = None,
        rank: int = 0,
    ) -> None:
        self.geometry, self.epoch, self.batch, self.dtype = geometry, epoch, batch, dtype
        self.threads, self.device_id, self.rank = threads, device_id, rank
        config = geometry.augmentation
        self._blurs = config is not None and config.blur_sigma > 0 and config.blur_probability > 0
        self._adds_noise = config is not None and config.noise_std > 0 and config.noise_probability > 0
        self._pipeline: Any = None
        self._lent: deque[tuple[torch.cuda.Event, Any]] = deque()

    def __call__(self, cells: Cells, positions: np.ndarray) -> torch.Tensor:
        if self._pipeline is None:
            self._pipeline = self._build(cells)
        self._feed(cells, positions)
        stream = None if self.device_id is None else torch.cuda.current_stream(self.device_id)
        (output,) = self._pipeline.run(None if stream is None else stream.cuda_stream)
        values = self.geometry.preprocessing
        grey = torch.from_dlpack(output.as_tensor())
        images = normalize(
            grey.reshape(self.batch, 1, values.image_size, values.image_size), values.normalization, self.dtype
        )
        if stream is not None:
            while self._lent and self._lent[0][0].query():
                self._lent.popleft()
            self._lent.append((stream.record_event(), (cells, output, grey)))
        return images

    def _build(self, cells: Cells) -> Any:
        values = self.geometry.preprocessing
        seeds = np.random.SeedSequence([self.geometry.seed, self.epoch, 3, self.rank]).generate_state(1)
        return transform_dali.warping_pipeline(
            batch_size=self.batch,
            size=values.image_size,
            threads=self.threads,
            device_id=self.device_id,
            cells_on_gpu=cells.addresses is None,
            depth=cells.depth,
            fill=self.geometry.fills,
            shrink=values.antialias,
            blur=self._blurs,
            noise=self._adds_noise,
            seed=int(seeds[0] >> 1),
        )

    def _feed(self, cells: Cells, positions: np.ndarray) -> None:
        drawn = self.geometry.draw(self.epoch, positions)
        matrix = self.geometry.matrices(cells, drawn)
        pixels = list(cells.pixels) if isinstance(cells.pixels, Sequence) else cells.pixels
        inputs: dict[str, Any] = {"cells": pixels}
        if self.geometry.preprocessing.antialias:
            inputs["shrunk"] = _shrink(matrix, cells.heights, cells.widths)
        if self.geometry.fills:
            inputs["level"] = self.geometry.fill(cells)
        if drawn is not None and self._blurs:
            sigma = drawn.blur_sigma
            inputs["radius"] = np.ceil(3 * sigma).astype(np.int32)
            inputs["sigma"] = np.where(sigma > 0, sigma, np.float32(1))  # of one tap where the radius is 0
        if drawn is not None and self._adds_noise:
            inputs["std"] = drawn.noise_std
        inputs["matrix"] = matrix.astype(np.float32)
        for name, value in inputs.items():
            self._pipeline.feed_input(name, value)


def _shrink(matrix: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Sizes to filter the cells to, (B, 2) float32; `matrix` is changed in place to go on from there."""
    raw = np.stack([widths, heights], axis=1).astype(np.float64)
    scale = np.sqrt((matrix[:, :, :2] ** 2).sum(2))  # source pixels per output pixel along source x and y
    size = np.where(scale > 1, np.maximum(np.rint(raw / scale), 1), raw)
    matrix *= (size / raw)[:, :, None]
    return np.ascontiguousarray(size[:, ::-1], dtype=np.float32)


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
    """Make the transform of one epoch.

    Args:
        name: ``auto``, ``fused`` or ``dali`` (see `resolve_transform`).

    The others are those of the classes.

    Raises:
        ArgumentError: unknown name, or ``fused`` asked for where it cannot be.
    """
    name = resolve_transform(name, geometry.preprocessing, device_id)
    if name == "dali":
        return DaliTransform(geometry, epoch, batch, dtype, threads, device_id, rank)
    if device_id is not None:
        return FusedGpuTransform(geometry, epoch, dtype, torch.device("cuda", device_id))
    return FusedTransform(geometry, epoch, dtype, threads)
