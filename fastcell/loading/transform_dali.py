"""The DALI graph of the transform, and the exchange of arrays between DALI, NumPy and torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

from fastcell.loading.geometry import Geometry
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.ops.normalize import normalize
from fastcell.system.library_settings import quiet_dali


def warping_pipeline(
    *,
    batch_size: int,
    size: int,
    threads: int,
    device_id: int | None,
    cells_on_gpu: bool,
    depth: int,
    fill: bool,
    shrink: bool,
    blur: bool,
    noise: bool,
    seed: int,
) -> Pipeline:
    """Build the graph that maps raw cells to squares: affine map, blur, noise; grey levels, not yet normalised.

    Inputs to feed, B samples each: ``cells`` (H, W, 1) uint8 or uint16; ``matrix`` (2, 3) float32, map from output
    pixel centre to source point. Optional inputs, each needed only if its flag is set: ``level`` () float32, the grey
    level outside the cell (without it, the edge pixels of the cell are repeated); ``shrunk`` (2,) float32, height and
    width to which a low-pass filter reduces the cell before the map; ``sigma`` () float32 and ``radius`` () int32 of
    the blur; ``std`` () float32 of the noise.

    Args:
        batch_size: B, the same in every run.
        size: S, height and width of the square [px].
        threads: threads of the CPU operators, >= 1.
        device_id: GPU, or None for the CPU operators.
        cells_on_gpu: the cells are already in GPU memory.
        depth: bits per grey level, 8 or 16.
        fill, shrink, blur, noise: flags of the operators that are needed.
        seed: seed of the noise.

    Returns:
        A built pipeline with one output, (B, S, S, 1) float32.
    """
    pipeline = Pipeline(
        batch_size=batch_size, num_threads=threads, device_id=device_id, prefetch_queue_depth=1, seed=seed
    )

    def column(name: str, ndim: int, dtype: Any = types.FLOAT) -> Any:
        return fn.external_source(name=name, ndim=ndim, dtype=dtype)

    with pipeline:
        kind = types.UINT8 if depth == 8 else types.UINT16
        place = "gpu" if cells_on_gpu else "cpu"
        cells = fn.external_source(name="cells", device=place, ndim=3, dtype=kind, layout="HWC")
        if device_id is not None and not cells_on_gpu:
            cells = cells.gpu()
        images = fn.cast(cells, dtype=types.FLOAT)
        if depth == 16:  # 65535 is grey level 255
            images = images * (1 / 257)
        if shrink:
            shrunk = column("shrunk", 1)
            images = fn.resize(images, size=shrunk, antialias=True, interp_type=types.INTERP_LINEAR)
        warp = {"matrix": column("matrix", 2), "size": (size, size), "inverse_map": True}  # map from output to source
        if fill:  # the operator has one fill value for all cells: shift each cell's own to zero and back
            level = column("level", 0)
            images = fn.warp_affine(images - level, fill_value=0.0, **warp) + level
        else:
            images = fn.warp_affine(images, **warp)
        if blur:
            radius = column("radius", 0, types.INT32)
            images = fn.gaussian_blur(images, sigma=column("sigma", 0), window_size=2 * radius + 1)
        if noise:
            images = fn.noise.gaussian(images, stddev=column("std", 0), seed=seed)
        pipeline.set_outputs(images)
    with quiet_dali():
        pipeline.build()
    return pipeline


class DaliTransform:
    """Transform that maps cells to grey squares with DALI operators and normalises with `fastcell.ops.normalize`.

    On a GPU all work is queued on the stream that is current when an instance is called, and nothing waits for the
    device. Memory lent by DALI is kept until that stream has passed the normalisation.

    With antialiasing, the cell is low-pass filtered along its own axes to about its final size, then mapped. Without
    rotation, shift or scale the result equals that of ``fused``, except for the outermost pixels, where DALI's filter
    repeats the edge. Otherwise it differs by one more interpolation.

    Args:
        geometry: affine map, grey level outside and augmentation of each cell.
        epoch: epoch of the augmentation.
        batch: cells per call, always the same.
        dtype: dtype of the images.
        threads: threads of DALI's CPU operators.
        device_id: GPU, or None for DALI's CPU operators.
        rank: index of the rank, for the seed of the noise.
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

    def __call__(self, cells: RaggedCells, positions: np.ndarray) -> torch.Tensor:
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

    def _build(self, cells: RaggedCells) -> Any:
        values = self.geometry.preprocessing
        seeds = np.random.SeedSequence([self.geometry.seed, self.epoch, 3, self.rank]).generate_state(1)
        return warping_pipeline(
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

    def _feed(self, cells: RaggedCells, positions: np.ndarray) -> None:
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
            inputs["sigma"] = np.where(sigma > 0, sigma, np.float32(1))  # a filter of one tap if the radius is 0
        if drawn is not None and self._adds_noise:
            inputs["std"] = drawn.noise_std
        inputs["matrix"] = matrix.astype(np.float32)
        for name, value in inputs.items():
            self._pipeline.feed_input(name, value)


def _shrink(matrix: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return sizes to filter the cells to, (B, 2) float32, and change `matrix` in place to start from these sizes."""
    raw = np.stack([widths, heights], axis=1).astype(np.float64)
    scale = np.sqrt((matrix[:, :, :2] ** 2).sum(2))  # source pixels per output pixel along source x and y
    size = np.where(scale > 1, np.maximum(np.rint(raw / scale), 1), raw)
    matrix *= (size / raw)[:, :, None]
    return np.ascontiguousarray(size[:, ::-1], dtype=np.float32)
