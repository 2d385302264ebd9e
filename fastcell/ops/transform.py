"""Image batches from a pool of ragged cells: ``kernels/transform.cu`` (GPU), `fastcell.ops.cpu.transform` (CPU).

One launch does gather, affine map, bilinear sampling, blur, noise and normalisation. Random changes are drawn from
(seed, epoch, position) on the device, so the only inputs per batch are indices, and a captured CUDA graph gives new
batches when it is replayed with new indices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import torch

from fastcell.errors import invalid
from fastcell.ops.augmentation import Augmentation, draw
from fastcell.ops.constants import EPS, FITS, GPU_IMAGE_SIZES, GPU_SIZES_RULE, MODES, mode_number
from fastcell.ops.cpu.transform import transform_pool
from fastcell.ops.cuda_kernels import get_kernel, import_cupy, launch
from fastcell.ops.matrices import matrices

_ROWS_PER_WARP = 8
_CUDA_TYPES = {
    torch.uint8: "u8",
    torch.uint16: "u16",
    torch.float32: "float",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
}
_OUTPUTS = (torch.float32, torch.float16, torch.bfloat16)


class CellPool(NamedTuple):
    """Pool of M ragged cells, stored one after another.

    All columns except `pixels` are on the device that runs the transform.

    Attributes:
        pixels: (N,) uint8 grey levels, or uint16 where 65535 is grey level 255; on the CPU, on a GPU, or in pinned host
            memory that a GPU reads over the bus.
        offset: (M,) int64, first pixel of each cell in `pixels`; cells may overlap.
        height: (M,) int32 [px].
        width: (M,) int32 [px].
        border: (M,) float32, grey level 0..255 outside each cell; None to repeat the edge pixels of a cell.
        um_per_px: (M,) float32, micrometres per pixel, NaN if unknown; None if not needed.
    """

    pixels: torch.Tensor
    offset: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor
    border: torch.Tensor | None = None
    um_per_px: torch.Tensor | None = None

    @property
    def num_cells(self) -> int:
        """Number of cells, M."""
        return self.offset.shape[0]


def make_clock(seed: int, epoch: int) -> torch.Tensor:
    """Return seed and epoch as the tensor that `transform` draws random changes from, besides the positions.

    Args:
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.

    Returns:
        (2,) int64 on the CPU: the bits of `seed`, then `epoch`.

    Raises:
        ArgumentError: `seed` or `epoch` is out of range.
    """
    for name, value, bits in (("seed", seed, 64), ("epoch", epoch, 32)):
        if not 0 <= value < 1 << bits:
            raise invalid(name, f"from 0 to 2**{bits} - 1", value, "Choose another")
    return torch.from_numpy(np.array([seed, epoch], np.uint64).view(np.int64))


def transform(
    pool: CellPool,
    index: torch.Tensor,
    position: torch.Tensor,
    clock: torch.Tensor,
    *,
    image_size: int = 128,
    fit: str = "stretch",
    augmentation: Augmentation | None = None,
    mode: str = "divide",
    scale_um_per_px: float | None = None,
    antialias: bool = False,
    dtype: torch.dtype = torch.float32,
    out: torch.Tensor | None = None,
    threads: int = 1,
    eps: float = EPS,
) -> torch.Tensor:
    """Make normalised square images of selected cells of a pool.

    `fastcell.ops.matrices.matrices` defines the affine map, `fastcell.ops.augmentation.draw` the random changes and
    `fastcell.ops.cpu.transform.transform_cells` the remaining steps. CPU and GPU draw the same changes and the same
    noise, and agree to 1e-5 of the largest value of the image.

    The function works inside ``torch.compile(fullgraph=True)``. On a GPU the kernel is launched on torch's current
    stream of the indices' device and the function returns at once. The first call with new types or sizes compiles the
    kernel, so make one call before a graph capture. On a GPU an index or a cell extent outside the pool gives an image
    of NaN; on the CPU it is an error.

    Args:
        pool: the cells; columns on the device of `index`.
        index: (B,) int64, cells to transform, 0 <= index < M; B may be 0.
        position: (B,) int64 >= 0, position of each cell in the epoch, which determines its random changes; on the
            device of `index`.
        clock: (2,) int64 from `make_clock`, on the device of `index`.
        image_size: S, height and width of the images [px]; on a GPU one of `GPU_IMAGE_SIZES`, the multiples of 8 from
            16 to 128.
        fit: ``stretch``, ``contain`` or ``scale``.
        augmentation: strengths of the random changes; None for no changes.
        mode: normalisation: ``divide``, ``subtract`` or ``standardize``.
        scale_um_per_px: micrometres per output pixel, for ``scale``; None uses one output pixel per raw pixel.
        antialias: where a cell is scaled down, sample it with a triangle filter as wide as the scale.
        dtype: dtype of the result: float32, float16 or bfloat16.
        out: (B, 1, S, S) of `dtype`, contiguous, on the device of `index`; written and returned.
        threads: threads that share a batch on the CPU; the result does not depend on it.
        eps: smallest divisor [grey levels], > 0.

    Returns:
        (B, 1, S, S) of `dtype`; `out` if given.

    Raises:
        ArgumentError: a name, dtype, shape, layout, device or (on the CPU) value breaks its rule.
        FastcellError: the indices are on a GPU and CuPy is not installed.
    """
    if fit not in FITS:
        raise invalid("fit", f"one of {', '.join(FITS)}", fit, "Take stretch for what the paper does")
    if dtype not in _OUTPUTS:
        raise invalid("dtype", "float32, float16 or bfloat16", dtype, "Convert the result after the call")
    if not eps > 0:
        raise invalid("eps", "positive", eps, f"Leave it out for {EPS}")
    _check_pool(pool, index)
    count = index.shape[0]
    _check("index", index, (torch.int64,), (count,), index.device)
    _check("position", position, (torch.int64,), (count,), index.device)
    _check("clock", clock, (torch.int64,), (2,), index.device)
    if index.is_cuda and image_size not in GPU_IMAGE_SIZES:
        raise invalid("image_size", GPU_SIZES_RULE, image_size, "Take another, or transform='dali'")
    settings = _settings(fit, augmentation, mode_number(mode), scale_um_per_px, eps, antialias)
    columns = (*pool, index, position, clock)
    if out is None:
        return torch.ops.fastcell.transform(*columns, image_size, dtype, settings, threads)
    _check("out", out, (dtype,), (count, 1, image_size, image_size), index.device)
    torch.ops.fastcell.transform_into(*columns, out, settings, threads)
    return out


def _check_pool(pool: CellPool, index: torch.Tensor) -> None:
    if index.device.type not in ("cpu", "cuda"):
        raise invalid("index", "on the CPU or a CUDA device", index.device, "Move it with .to()")
    count = pool.num_cells
    _check("pixels", pool.pixels, (torch.uint8, torch.uint16), tuple(pool.pixels.shape[:1]), None)
    if pool.pixels.device != index.device and not (index.is_cuda and pool.pixels.is_pinned()):
        raise invalid("pixels", f"on {index.device}, or in pinned memory", pool.pixels.device, "Move the pool")
    for name, value, dtype in (
        ("offset", pool.offset, torch.int64),
        ("height", pool.height, torch.int32),
        ("width", pool.width, torch.int32),
        ("border", pool.border, torch.float32),
        ("um_per_px", pool.um_per_px, torch.float32),
    ):
        if value is not None:
            _check(name, value, (dtype,), (count,), index.device)


def _check(
    name: str, value: torch.Tensor, dtypes: tuple[torch.dtype, ...], shape: tuple[int, ...], device: torch.device | None
) -> None:
    if value.dtype not in dtypes or tuple(value.shape) != shape or not value.is_contiguous():
        kind = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        got = f"{value.dtype} {tuple(value.shape)}{'' if value.is_contiguous() else ', strided'}"
        raise invalid(name, f"{kind}, contiguous, of shape {shape}", got, "Convert it before the call")
    if device is not None and value.device != device:
        raise invalid(name, f"on {device}, as index is", value.device, "Move it with .to()")


class _Settings(NamedTuple):
    """Scalar settings of a call, in the order of the operator's list; augmentation settings keep their names."""

    fit: float
    scale_um_per_px: float  # 0: not given
    flip_horizontal: float
    flip_vertical: float
    rotation_deg: float
    translation: float
    scale: float
    blur_sigma: float
    blur_probability: float
    noise_std: float
    noise_probability: float
    mode: float
    eps: float
    antialias: float

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation.from_numbers({field.name: getattr(self, field.name) for field in fields(Augmentation)})

    @property
    def blurs(self) -> bool:
        return self.blur_sigma > 0 and self.blur_probability > 0


def _settings(
    fit: str,
    augmentation: Augmentation | None,
    mode: int,
    scale_um_per_px: float | None,
    eps: float,
    antialias: bool,
) -> list[float]:
    if scale_um_per_px is not None and not scale_um_per_px > 0:
        raise invalid("scale_um_per_px", "positive", scale_um_per_px, "Leave it out for raw pixels")
    changes = (augmentation or Augmentation.none()).to_dict()
    numbers = {"fit": FITS.index(fit), "scale_um_per_px": scale_um_per_px or 0.0, "mode": mode, "eps": eps}
    settings = _Settings(**numbers, antialias=antialias, **changes)
    return [float(value) for value in settings]


@torch.library.custom_op("fastcell::transform", mutates_args=())
def _transform(
    pixels: torch.Tensor,
    offset: torch.Tensor,
    height: torch.Tensor,
    width: torch.Tensor,
    border: torch.Tensor | None,
    um_per_px: torch.Tensor | None,
    index: torch.Tensor,
    position: torch.Tensor,
    clock: torch.Tensor,
    image_size: int,
    dtype: torch.dtype,
    settings: Sequence[float],
    threads: int,
) -> torch.Tensor:
    out = index.new_empty((index.shape[0], 1, image_size, image_size), dtype=dtype)
    pool = CellPool(pixels, offset, height, width, border, um_per_px)
    _dispatch(pool, index, position, clock, out, _Settings(*settings), threads)
    return out


@_transform.register_fake
def _(*given: Any) -> torch.Tensor:
    *_, index, _position, _clock, image_size, dtype, _settings, _threads = given
    return index.new_empty((index.shape[0], 1, image_size, image_size), dtype=dtype)


@torch.library.custom_op("fastcell::transform_into", mutates_args=("out",))
def _transform_into(
    pixels: torch.Tensor,
    offset: torch.Tensor,
    height: torch.Tensor,
    width: torch.Tensor,
    border: torch.Tensor | None,
    um_per_px: torch.Tensor | None,
    index: torch.Tensor,
    position: torch.Tensor,
    clock: torch.Tensor,
    out: torch.Tensor,
    settings: Sequence[float],
    threads: int,
) -> None:
    pool = CellPool(pixels, offset, height, width, border, um_per_px)
    _dispatch(pool, index, position, clock, out, _Settings(*settings), threads)


@_transform_into.register_fake
def _(*given: Any) -> None:
    return None


def _dispatch(
    pool: CellPool,
    index: torch.Tensor,
    position: torch.Tensor,
    clock: torch.Tensor,
    out: torch.Tensor,
    settings: _Settings,
    threads: int,
) -> None:
    if index.shape[0] == 0:
        return
    run = _launch if index.is_cuda else functools.partial(_run_twin, threads=threads)
    run(pool, index, position, clock, out, settings)


def _run_twin(
    pool: CellPool,
    index: torch.Tensor,
    position: torch.Tensor,
    clock: torch.Tensor,
    out: torch.Tensor,
    settings: _Settings,
    threads: int,
) -> None:
    chosen = index.numpy()
    if chosen.min() < 0 or chosen.max() >= pool.num_cells:
        got = f"{chosen.min()} to {chosen.max()}"
        raise invalid("index", f"from 0 to {pool.num_cells - 1}", got, "Take indices of cells in the pool")
    offset, height, width = (column.numpy()[chosen] for column in (pool.offset, pool.height, pool.width))
    fit, scale_um_per_px = FITS[int(settings.fit)], settings.scale_um_per_px or None
    drawn = None
    if not settings.augmentation.is_none:
        seed, epoch = clock.numpy().view(np.uint64).tolist()
        drawn = draw(settings.augmentation, seed, epoch, position.numpy())
    um_per_px = None if pool.um_per_px is None else pool.um_per_px.numpy()[chosen]
    maps = matrices(height, width, out.shape[2], fit, drawn, scale_um_per_px, um_per_px)
    zeros = np.zeros(len(chosen), np.float32)
    exact = out if out.dtype == torch.float32 else torch.empty(out.shape, dtype=torch.float32)
    transform_pool(
        pool.pixels.numpy(),
        offset,
        height,
        width,
        maps,
        np.full(len(chosen), np.nan, np.float32) if pool.border is None else pool.border.numpy()[chosen],
        zeros if drawn is None else drawn.blur_sigma,
        zeros if drawn is None else drawn.noise_std,
        zeros.astype(np.uint64) if drawn is None else drawn.noise_seed,
        exact.detach().numpy(),
        MODES[int(settings.mode)],
        threads,
        settings.antialias > 0,
        settings.eps,
    )
    if exact is not out:
        out.copy_(exact)


def _launch(
    pool: CellPool,
    index: torch.Tensor,
    position: torch.Tensor,
    clock: torch.Tensor,
    out: torch.Tensor,
    settings: _Settings,
) -> None:
    import_cupy("transform", "cells")
    size, blurs = out.shape[2], settings.blurs
    macros = (
        f"CELL_SIZE={size}",
        f"CELL_IN={_CUDA_TYPES[pool.pixels.dtype]}",
        f"CELL_OUT={_CUDA_TYPES[out.dtype]}",
        f"CELL_BLUR={int(blurs)}",
        f"CELL_FILTER={int(settings.antialias)}",
    )
    kernel = get_kernel(index.device.index, "transform.cu", "transform", macros, shared_bytes(size, blurs))
    arguments = tuple(_kernel_arguments(pool, index, position, clock, out, settings).values())
    threads = size // _ROWS_PER_WARP * 32
    launch(kernel, index.device, index.shape[0], threads, arguments, shared_bytes(size, blurs))


def _kernel_arguments(
    pool: CellPool,
    index: torch.Tensor,
    position: torch.Tensor,
    clock: torch.Tensor,
    out: torch.Tensor,
    settings: _Settings,
) -> dict[str, np.generic]:
    """Return the kernel arguments with the names and in the order of ``kernels/transform.cu``."""

    def address(tensor: torch.Tensor | None) -> np.uintp:
        return np.uintp(0 if tensor is None else tensor.data_ptr())

    return {
        "pixels": address(pool.pixels),
        "num_pixels": np.int64(pool.pixels.numel()),
        "offset": address(pool.offset),
        "height": address(pool.height),
        "width": address(pool.width),
        "border": address(pool.border),
        "um_per_px": address(pool.um_per_px),
        "num_cells": np.int64(pool.num_cells),
        "index": address(index),
        "position": address(position),
        "clock": address(clock),
        "out": address(out),
        "fit": np.int32(settings.fit),
        "scale_um_per_px": np.float64(settings.scale_um_per_px),
        "flip_horizontal": np.int32(settings.flip_horizontal),
        "flip_vertical": np.int32(settings.flip_vertical),
        "rotation_rad": np.float64(math.radians(settings.rotation_deg)),
        "translation": np.float64(settings.translation),
        "scale": np.float64(settings.scale),
        "blur_sigma": np.float64(settings.blur_sigma),
        "blur_probability": np.float64(settings.blur_probability),
        "noise_std": np.float64(settings.noise_std),
        "noise_probability": np.float64(settings.noise_probability),
        "mode": np.int32(settings.mode),
        "eps": np.float32(settings.eps),
    }


def shared_bytes(size: int, blurs: bool) -> int:
    """Return the dynamic shared memory of one block [bytes], as stated in the header of ``kernels/transform.cu``."""
    return 4 * size * size if blurs else 112 + size
