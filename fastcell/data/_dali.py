"""The DALI graphs of the stream, and the few places where arrays pass between DALI, NumPy and torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

from fastcell.environment import quiet_dali

#: Digits of the cell_id (block layout: block number) that the name column of an index file holds.
NAME_DIGITS = 12

_POWERS = 10 ** np.arange(NAME_DIGITS - 1, -1, -1, dtype=np.int64)


def reading_pipeline(
    files: Sequence[tuple[str, str]],
    *,
    batch_size: int,
    threads: int,
    device_id: int | None,
    decode: bool,
    window: int | None,
    seed: int,
    mmap: bool,
    record_bytes: int,
) -> Pipeline:
    """Build the graph that reads records and, if asked, decodes them to grey.

    Args:
        files: (tar, index file) paths, in the order to be read.
        batch_size: records per run.
        threads: of the decoder, >= 1.
        device_id: GPU, or None for the CPU operators.
        decode: give (H, W, 1) uint8 pixels, on the GPU if there is one; else the stored bytes, on the CPU.
        window: None reads in order; a number mixes the records in a buffer of that many.
        seed: of that buffer.
        mmap: map the tars into memory instead of reading them (dies by a signal where a tar shrinks meanwhile).
        record_bytes: size that is reserved for each record before it is read; larger ones grow.

    Returns:
        A built pipeline with the outputs (pixels or bytes, (B, 12) uint8 digits of the number of the record).
    """
    pipeline = Pipeline(
        batch_size=batch_size, num_threads=threads, device_id=device_id, prefetch_queue_depth=2, seed=seed
    )
    with pipeline:
        data = fn.readers.webdataset(
            paths=[tar for tar, _ in files],
            index_paths=[index for _, index in files],
            ext=["img"],
            missing_component_behavior="error",
            dont_use_mmap=not mmap,
            random_shuffle=window is not None,
            initial_fill=window or 1,
            seed=seed,
            tensor_init_bytes=record_bytes,
        )
        number = fn.get_property(data, key="source_info")[-NAME_DIGITS:]
        if decode:
            device = "cpu" if device_id is None else "mixed"
            data = fn.decoders.image(data, device=device, output_type=types.GRAY)
        pipeline.set_outputs(data, number)
    with quiet_dali():
        pipeline.build()
    return pipeline


def decoding_pipeline(device_id: int | None) -> Pipeline:
    """Build the decoder alone, for one cell at a time fed as ``data``: it tells which cell DALI cannot decode."""
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=device_id, prefetch_queue_depth=1)
    with pipeline:
        data = fn.external_source(name="data", ndim=1, dtype=types.UINT8)
        device = "cpu" if device_id is None else "mixed"
        pipeline.set_outputs(fn.decoders.image(data, device=device, output_type=types.GRAY))
    with quiet_dali():
        pipeline.build()
    return pipeline


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


def record_numbers(digits: Any) -> np.ndarray:
    """(B,) int64 from the second output of `reading_pipeline`."""
    return (digits.as_array().astype(np.int64) - ord("0")) @ _POWERS


def pixel_addresses(cells: Any) -> np.ndarray:
    """(B,) int64, address of the first byte of each sample of a TensorListCPU (0.5 us each)."""
    return np.array([tensor.data_ptr() for tensor in cells], dtype=np.int64)


def sides(cells: Any) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths, (B,) int32 each, of a TensorList of (H, W, 1)."""
    shapes = np.array(cells.shape(), dtype=np.int32)
    return np.ascontiguousarray(shapes[:, 0]), np.ascontiguousarray(shapes[:, 1])
