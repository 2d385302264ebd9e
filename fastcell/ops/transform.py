"""Raw cells to normalised square images in one pass on the CPU: gather, affine, bilinear, blur, noise, normalise."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from fastcell.errors import invalid
from fastcell.ops import _cell_kernels
from fastcell.ops.modes import EPS, MAX_BLUR_SIGMA, mode_number

# Source coordinates are Q32 fixed point in 64 bits: 31 bits are left of the point.
_MAX_COORDINATE = float(1 << 30)

# Chunks per thread: enough to even out cells of unlike size, few enough to cost nothing.
_CHUNKS_PER_THREAD = 4


@functools.cache
def _thread_pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="fastcell-transform")


# A forked child inherits the pools but not their threads: it must make its own.
os.register_at_fork(after_in_child=_thread_pool.cache_clear)


def _check_column(name: str, value: object, dtype: type, shape: tuple[int, ...]) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != dtype or value.shape != shape:
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise invalid(name, f"a {np.dtype(dtype).name} array of shape {shape}", got, "Convert it before the call")


def _check_values(name: str, good: npt.NDArray[np.bool_], value: np.ndarray, rule: str, way_out: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise invalid(f"{name}[{row}]", rule, value[row].tolist(), way_out)


def _check_matrices(matrices: npt.NDArray[np.float64], size: int) -> None:
    linear = np.abs(matrices[:, :, :2]).sum(2) * size
    _check_values(
        "matrices",
        (linear + np.abs(matrices[:, :, 2]) < _MAX_COORDINATE).all(1),
        matrices,
        f"finite and map the square to coordinates below {_MAX_COORDINATE:.0f}",
        "Check the cell's size and the scale",
    )


def transform_cells(
    addresses: npt.NDArray[np.int64],
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
    matrices: npt.NDArray[np.float64],
    fill: npt.NDArray[np.float32],
    blur_sigma: npt.NDArray[np.float32],
    noise_std: npt.NDArray[np.float32],
    noise_seed: npt.NDArray[np.uint64],
    out: npt.NDArray[np.float32],
    mode: str = "divide",
    threads: int = 1,
    antialias: bool = False,
    eps: float = EPS,
) -> npt.NDArray[np.float32]:
    """Map raw cells to normalised square images, one pass per cell.

    A pixel i of an axis covers [i, i + 1] with its centre at i + 0.5, in source and output alike. The output pixel
    (x, y) is the bilinear sample of the cell at ``matrix @ (x + 0.5, y + 0.5, 1)``, in grey levels. Then comes a
    Gaussian blur of radius ceil(3 sigma), mirrored about the outermost pixel centres, then noise, then the
    normalisation of the image by its own mean (see ``modes.MODES``).

    Outside the cell: with ``fill`` NaN the nearest pixel of the cell continues for ever; with a number the cell lies on
    an endless plane of that grey level. So a pixel whose source point lies half a pixel or more outside the rectangle
    [0, W] x [0, H] is exactly ``fill``, and within half a pixel of the rectangle's edge cell and plane are
    interpolated. DALI's ``warp_affine`` does the same with and without ``fill_value``.

    Noise: Philox4x32-10 with key ``noise_seed`` and counter y * Q + i, Q = ceil(S / 4), gives the normals of row y at
    columns i + Q k (k = 0..3) by Box and Muller's transform, on 23-bit uniforms that are exact in float32.

    Args:
        addresses: (B,) int64, address of each cell's first pixel; a cell is H * W contiguous uint8, row by row. The
            caller keeps the memory alive and answers for its extent; `transform_pool` checks it.
        heights: (B,) int32, H >= 1 [px].
        widths: (B,) int32, W >= 1 [px].
        matrices: (B, 2, 3) float64, output pixel centre to source point [px].
        fill: (B,) float32, grey level outside the cell, or NaN.
        blur_sigma: (B,) float32, standard deviation of the blur in output pixels, 0..16; 0 for none.
        noise_std: (B,) float32, standard deviation of the noise in grey levels, >= 0; 0 for none.
        noise_seed: (B,) uint64, key of the noise.
        out: (B, 1, S, S) float32, C-contiguous; written and returned.
        mode: ``divide``, ``subtract`` or ``standardize``.
        threads: how many threads share the batch, >= 1. The result does not depend on it.
        antialias: where an axis is scaled down, sample with a triangle filter as wide as the scale, as
            ``torch.nn.functional.interpolate(antialias=True)`` does; a map that rotates or shears is filtered along
            the source's axes first and sampled bilinearly after.
        eps: smallest divisor [grey levels].

    Returns:
        ``out``.

    Raises:
        ArgumentError: a dtype, shape or value breaks its rule.
    """
    number = mode_number(mode)
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.ndim != 4 or out.shape[1] != 1:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise invalid("out", "a float32 array of shape (B, 1, S, S)", got, "Allocate it with numpy.empty")
    count, _, size, columns = out.shape
    if size != columns or size < 1 or not out.flags.c_contiguous or not out.flags.writeable:
        raise invalid("out", "square, C-contiguous and writeable", (out.shape, out.strides), "Allocate it anew")
    for name, value, dtype, shape in (
        ("addresses", addresses, np.int64, (count,)),
        ("heights", heights, np.int32, (count,)),
        ("widths", widths, np.int32, (count,)),
        ("matrices", matrices, np.float64, (count, 2, 3)),
        ("fill", fill, np.float32, (count,)),
        ("blur_sigma", blur_sigma, np.float32, (count,)),
        ("noise_std", noise_std, np.float32, (count,)),
        ("noise_seed", noise_seed, np.uint64, (count,)),
    ):
        _check_column(name, value, dtype, shape)
    if threads < 1:
        raise invalid("threads", "at least 1", threads, "Give the number of CPU cores to use")
    if not eps > 0:
        raise invalid("eps", "positive", eps, f"Leave it out for {EPS}")
    if count == 0:
        return out
    _check_values("addresses", addresses != 0, addresses, "the address of a cell", "Give the data pointer")
    _check_values("heights", heights >= 1, heights, "at least 1", "Leave empty cells out")
    _check_values("widths", widths >= 1, widths, "at least 1", "Leave empty cells out")
    _check_values("fill", ~np.isinf(fill), fill, "a grey level or NaN", "Give NaN to clamp to the border")
    good_blur = (blur_sigma >= 0) & (blur_sigma <= MAX_BLUR_SIGMA)
    _check_values("blur_sigma", good_blur, blur_sigma, f"from 0 to {MAX_BLUR_SIGMA:g}", "Give 0 for no blur")
    good_noise = (noise_std >= 0) & np.isfinite(noise_std)
    _check_values("noise_std", good_noise, noise_std, "finite and not negative", "Give 0 for no noise")
    _check_matrices(matrices, size)

    columns_in = [
        np.ascontiguousarray(a) for a in (addresses, heights, widths, matrices, fill, blur_sigma, noise_std, noise_seed)
    ]
    images, flat_images = out.reshape(count, size, size), out.reshape(count, size * size)

    def run(begin: int, end: int) -> None:
        _cell_kernels.transform_range(
            *columns_in, images, flat_images, number, antialias or None, float(eps), begin, end
        )

    if threads == 1 or count == 1:
        run(0, count)
        return out
    step = max(1, -(-count // (threads * _CHUNKS_PER_THREAD)))
    begins = range(0, count, step)
    for done in [_thread_pool(threads).submit(run, begin, min(begin + step, count)) for begin in begins]:
        done.result()
    return out


def transform_pool(
    pixels: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
    matrices: npt.NDArray[np.float64],
    fill: npt.NDArray[np.float32],
    blur_sigma: npt.NDArray[np.float32],
    noise_std: npt.NDArray[np.float32],
    noise_seed: npt.NDArray[np.uint64],
    out: npt.NDArray[np.float32],
    mode: str = "divide",
    threads: int = 1,
    antialias: bool = False,
    eps: float = EPS,
) -> npt.NDArray[np.float32]:
    """Do what `transform_cells` does for cells that lie in one pool, with every cell's extent checked.

    Args:
        pixels: (N,) uint8, contiguous pool of raw cells.
        offsets: (B,) int64, where each cell begins in the pool; cells may repeat and overlap.

    The other arguments, what comes back and the further errors are those of `transform_cells`.

    Raises:
        ArgumentError: a cell reaches beyond the pool, or an argument breaks its rule.
    """
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 1:
        raise invalid("pixels", "a uint8 array of one dimension", getattr(pixels, "shape", pixels), "Flatten the pool")
    if not pixels.flags.c_contiguous:
        raise invalid("pixels", "contiguous", pixels.strides, "Copy it with numpy.ascontiguousarray")
    count = len(out)
    for name, value, dtype in (
        ("offsets", offsets, np.int64),
        ("heights", heights, np.int32),
        ("widths", widths, np.int32),
    ):
        _check_column(name, value, dtype, (count,))
    ends = offsets + heights.astype(np.int64) * widths
    _check_values(
        "offsets",
        (offsets >= 0) & (ends <= pixels.size),
        offsets,
        f"inside the pool of {pixels.size} pixels with the whole cell",
        "Check the offsets against the sizes",
    )
    addresses = offsets + pixels.ctypes.data
    cells = (addresses, heights, widths, matrices, fill, blur_sigma, noise_std, noise_seed)
    return transform_cells(*cells, out, mode, threads, antialias, eps)
