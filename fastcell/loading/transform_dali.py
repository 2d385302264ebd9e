"""The DALI graph of the transform, and the few places where arrays pass between DALI, NumPy and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

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

    Inputs to feed, B samples each: ``cells`` (H, W, 1) uint8 or uint16; ``matrix`` (2, 3) float32, output pixel centre
    to source point; then, only where the flag of that name asks for it, ``level`` () float32, the grey level outside of
    the cell (without it the cell's edge continues); ``shrunk`` (2,) float32, height and width that a low-pass filter
    takes the cell to before the map; ``sigma`` () float32 and ``radius`` () int32 of the blur; ``std`` () float32 of
    the noise.

    Args:
        batch_size: B, the same in every run.
        size: S, side of the square [px].
        threads: of the CPU operators, >= 1.
        device_id: GPU, or None for the CPU operators.
        cells_on_gpu: the cells are in GPU memory already.
        depth: bits of a grey level, 8 or 16.
        fill, shrink, blur, noise: which of the operators are needed.
        seed: of the noise.

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
        warp = {"matrix": column("matrix", 2), "size": (size, size), "inverse_map": True}  # output to source
        if fill:  # the operator's fill value is one for all: move each cell's own to zero and back
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


def pixel_addresses(cells: Any) -> np.ndarray:
    """(B,) int64, address of the first byte of each sample of a TensorListCPU (0.5 us each)."""
    return np.array([tensor.data_ptr() for tensor in cells], dtype=np.int64)


def sides(cells: Any) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths, (B,) int32 each, of a TensorList of (H, W, 1)."""
    shapes = np.array(cells.shape(), dtype=np.int32)
    return np.ascontiguousarray(shapes[:, 0]), np.ascontiguousarray(shapes[:, 1])
