"""Raw cells to normalised square images in one pass on the CPU: gather, affine, bilinear, blur, noise, normalise."""

from __future__ import annotations

import functools
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from numba import njit

from fastcell.errors import invalid
from fastcell.ops.constants import EPS, MAX_BLUR_SIGMA, mode_number
from fastcell.ops.cpu.affine import fits_q20, sample_affine, sample_large
from fastcell.ops.cpu.compiled_loops import FAST, INLINE, WITHOUT_ARRAYS, entry
from fastcell.ops.cpu.filter import blur, sample_filtered
from fastcell.ops.cpu.llvm import array_at, in_parts
from fastcell.ops.cpu.noise import NOISE_RUN, add_noise
from fastcell.ops.cpu.normalize import STANDARDIZE, gain_and_shift, normalize_in_place, shift_and_gain
from fastcell.ops.cpu.resample import sample_axis_aligned

F32 = np.float32

# Source coordinates are 64-bit Q32 fixed point, which has 31 integer bits.
_MAX_COORDINATE = float(1 << 30)

# Chunks per thread: enough to balance cells of different sizes, few enough to cause no overhead.
_CHUNKS_PER_THREAD = 4

# Pixel types, and the unsigned integers that hold two and four pixels.
_PIXEL_TYPES: dict[np.dtype, tuple[np.dtype, np.dtype]] = {
    np.dtype(np.uint8): (np.dtype(np.uint16), np.dtype(np.uint32)),
    np.dtype(np.uint16): (np.dtype(np.uint32), np.dtype(np.uint64)),
}

# Largest cell, in pixels per output pixel, that is rearranged for a rotation; beyond it the rearrangement dominates.
PAIRS_PER_OUTPUT = 8

# The kind of a cell is a sum of: it has a grey level outside; it needs more than an axis-aligned map (rotation, shear,
# blur or noise). Each kind has compiled code of its own, which may sum in another order: the same code treats a cell
# whatever lies beside it in the batch, so that its bits are the same in every batch.
_FILLED, _VARIED = 1, 2
_KINDS = (0, _FILLED, _VARIED, _FILLED | _VARIED)

# Numbers of the rules for the columns of a cell, as returned by `find_bad_cell`.
ADDRESS, HEIGHT, WIDTH, MATRIX, FILL, BLUR_SIGMA, NOISE_STD = range(7)

# Rule and hint for the error message.
_CELL_RULES = {
    ADDRESS: ("the address of a cell, aligned to its pixels", "Give the data pointer"),
    HEIGHT: ("at least 1", "Leave empty cells out"),
    WIDTH: ("at least 1", "Leave empty cells out"),
    MATRIX: (
        f"finite and map the square to coordinates below {_MAX_COORDINATE:.0f}",
        "Check the cell's size and the scale",
    ),
    FILL: ("a grey level or NaN", "Give NaN to clamp to the border"),
    BLUR_SIGMA: (f"from 0 to {MAX_BLUR_SIGMA:g}", "Give 0 for no blur"),
    NOISE_STD: ("finite and not negative", "Give 0 for no noise"),
}


@functools.cache
def _thread_pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="fastcell-transform")


# A forked child inherits the pools but not their threads, so it must create its own.
os.register_at_fork(after_in_child=_thread_pool.cache_clear)


_SCRATCH = threading.local()


def _scratch(
    size: int, pixel: np.dtype, is_varied: int
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...] | None]:
    """Return the scratch arrays of this thread for `transform_range`; the last ones are kept.

    The compiled loop does not create them: a call would be compiled for every type and number of axes.
    """
    pair, quad = _PIXEL_TYPES[pixel]
    if getattr(_SCRATCH, "key", None) != (size, pixel):
        _SCRATCH.key, _SCRATCH.varied = (size, pixel), None
        _SCRATCH.plain = (
            np.empty(0, pixel),
            np.empty((4, size), np.uint32),
            np.empty((6, size), np.float32),
            np.empty(size, pair),
            np.empty((2 * size, size), np.float32),
            np.empty(2 * size, np.float32),
        )
    if is_varied and _SCRATCH.varied is None:
        quarter = (size + 3) // 4
        normals = (4, max(NOISE_RUN // quarter, 1) * quarter)
        _SCRATCH.varied = (
            np.empty(max(PAIRS_PER_OUTPUT * size, 1) * size, pair),
            np.empty(size, quad),
            np.empty((2, size), np.int32),
            np.empty(size, np.int32),
            np.empty(normals, np.float32),
            np.empty(normals, np.float32),
        )
    return _SCRATCH.plain, _SCRATCH.varied if is_varied else None


def _check_column(name: str, value: object, dtype: type, shape: tuple[int, ...]) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != dtype or value.shape != shape:
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise invalid(name, f"a {np.dtype(dtype).name} array of shape {shape}", got, "Convert it before the call")


def _is_pixel_type(dtype: npt.DTypeLike) -> bool:
    try:
        return np.dtype(dtype) in _PIXEL_TYPES
    except TypeError:
        return False


def _plain(column: np.ndarray) -> np.ndarray:
    """Return the column as a plain C-contiguous array: the loops would be compiled again for every other kind."""
    return column if column.flags.carray else np.array(column, order="C")


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
    dtype: npt.DTypeLike = np.uint8,
) -> npt.NDArray[np.float32]:
    """Map raw cells to normalised square images, one pass per cell.

    Pixel i of an axis covers [i, i + 1] and has its centre at i + 0.5, in source and output alike. The output pixel
    (x, y) is the bilinear sample of the cell at ``matrix @ (x + 0.5, y + 0.5, 1)``, in grey levels. The further steps
    are a Gaussian blur of radius ceil(3 sigma), mirrored about the outermost pixel centres; noise; and normalisation of
    the image by its own mean (see `fastcell.ops.constants.MODES`).

    Outside the cell: if ``fill`` is NaN, the nearest pixel of the cell is repeated. If it is a number, the cell lies on
    an unlimited plane of that grey level: a pixel whose source point lies half a pixel or more outside the rectangle
    [0, W] x [0, H] is exactly ``fill``, and cell and plane are interpolated within half a pixel of the rectangle's
    edge. DALI's ``warp_affine`` does the same without and with ``fill_value``.

    Noise: Philox4x32-10 with key ``noise_seed`` and counter y * Q + i, Q = ceil(S / 4), gives the normals of row y at
    columns i + Q k (k = 0..3) by the Box-Muller transform, from 23-bit uniforms that are exact in float32.

    Args:
        addresses: (B,) int64, address of the first pixel of each cell, even for uint16. A cell consists of H * W
            contiguous pixels of `dtype`, row by row. The caller must keep the memory alive and guarantee its extent;
            `transform_pool` checks the extent.
        heights: (B,) int32, H >= 1 [px].
        widths: (B,) int32, W >= 1 [px].
        matrices: (B, 2, 3) float64, map from output pixel centre to source point [px].
        fill: (B,) float32, grey level outside the cell, or NaN.
        blur_sigma: (B,) float32, standard deviation of the blur in output pixels, 0 to 16; 0 for no blur.
        noise_std: (B,) float32, standard deviation of the noise in grey levels, >= 0; 0 for no noise.
        noise_seed: (B,) uint64, key of the noise.
        out: (B, 1, S, S) float32, C-contiguous; written and returned.
        mode: ``divide``, ``subtract`` or ``standardize``.
        threads: number of threads that share the batch, >= 1. The result does not depend on it.
        antialias: where an axis is scaled down, sample with a triangle filter as wide as the scale, as
            ``torch.nn.functional.interpolate(antialias=True)`` does. For a map that rotates or shears, the cell is
            filtered along the source axes first and sampled bilinearly afterwards.
        eps: smallest divisor [grey levels].
        dtype: pixel type: uint8 grey levels, or uint16 where 65535 is grey level 255.

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
    for name, value, kind, shape in (
        ("addresses", addresses, np.int64, (count,)),
        ("heights", heights, np.int32, (count,)),
        ("widths", widths, np.int32, (count,)),
        ("matrices", matrices, np.float64, (count, 2, 3)),
        ("fill", fill, np.float32, (count,)),
        ("blur_sigma", blur_sigma, np.float32, (count,)),
        ("noise_std", noise_std, np.float32, (count,)),
        ("noise_seed", noise_seed, np.uint64, (count,)),
    ):
        _check_column(name, value, kind, shape)
    if threads < 1:
        raise invalid("threads", "at least 1", threads, "Give the number of CPU cores to use")
    if not _is_pixel_type(dtype):
        raise invalid("dtype", "uint8 or uint16", dtype, "Convert the cells")
    if not eps > 0:
        raise invalid("eps", "positive", eps, f"Leave it out for {EPS}")
    if count == 0:
        return out
    columns_of_rules = {
        ADDRESS: ("addresses", _plain(addresses)),
        HEIGHT: ("heights", _plain(heights)),
        WIDTH: ("widths", _plain(widths)),
        MATRIX: ("matrices", _plain(matrices)),
        FILL: ("fill", _plain(fill)),
        BLUR_SIGMA: ("blur_sigma", _plain(blur_sigma)),
        NOISE_STD: ("noise_std", _plain(noise_std)),
    }
    cells = [column for _, column in columns_of_rules.values()]
    pixel = np.dtype(dtype)
    bad, rule, kinds = find_bad_cell(*cells, size, pixel.itemsize, _MAX_COORDINATE, MAX_BLUR_SIGMA)
    if bad >= 0:
        (name, column), (good, way_out) = columns_of_rules[rule], _CELL_RULES[rule]
        raise invalid(f"{name}[{bad}]", good, column[bad].tolist(), way_out)
    cells.append(_plain(noise_seed))
    images, flat_images = out.reshape(count, size, size), out.reshape(count, size * size)

    def run(begin: int, end: int) -> None:
        for kind in _KINDS:
            if kinds >> kind & 1:
                finish = kind & _VARIED or antialias or number == STANDARDIZE
                variant = [True if needed else None for needed in (antialias, kind & _FILLED, finish)]
                scratch = _scratch(size, pixel, kind & _VARIED)
                transform_range(*cells, images, flat_images, number, kind, *variant, *scratch, float(eps), begin, end)

    if threads == 1 or count == 1:
        run(0, count)
        return out
    step = max(1, -(-count // (threads * _CHUNKS_PER_THREAD)))
    begins = range(0, count, step)
    for done in [_thread_pool(threads).submit(run, begin, min(begin + step, count)) for begin in begins]:
        done.result()
    return out


def transform_pool(
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
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
    """Apply `transform_cells` to cells that lie in one pool, and check the extent of every cell.

    The other arguments, the return value and the further errors are those of `transform_cells`.

    Args:
        pixels: (N,) uint8 grey levels, or uint16 where 65535 is grey level 255; contiguous pool of raw cells.
        offsets: (B,) int64, first pixel of each cell in the pool; cells may repeat and overlap.

    Raises:
        ArgumentError: a cell extends beyond the pool, or an argument breaks its rule.
    """
    if not isinstance(pixels, np.ndarray) or not _is_pixel_type(pixels.dtype) or pixels.ndim != 1:
        got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise invalid("pixels", "a uint8 or uint16 array of one dimension", got, "Flatten or convert the pool")
    if not pixels.flags.c_contiguous:
        raise invalid("pixels", "contiguous", pixels.strides, "Copy it with numpy.ascontiguousarray")
    count = len(out)
    for name, value, dtype in (
        ("offsets", offsets, np.int64),
        ("heights", heights, np.int32),
        ("widths", widths, np.int32),
    ):
        _check_column(name, value, dtype, (count,))
    # Offset and size are not added: their sum could overflow and pass the check.
    good = (offsets >= 0) & (offsets <= pixels.size - heights.astype(np.int64) * widths)
    if not good.all():
        row = int(np.argmin(good))
        rule = f"inside the pool of {pixels.size} pixels with the whole cell"
        raise invalid(f"offsets[{row}]", rule, int(offsets[row]), "Check the offsets against the sizes")
    addresses = offsets * pixels.itemsize + pixels.ctypes.data
    cells = (addresses, heights, widths, matrices, fill, blur_sigma, noise_std, noise_seed)
    return transform_cells(*cells, out, mode, threads, antialias, eps, pixels.dtype)


@njit(**INLINE)
def _kind_of(matrix, fill, blur_sigma, noise_std):  # type: ignore[no-untyped-def]
    """Return the kind of a cell; see `_KINDS`."""
    kind = 0 if math.isnan(fill) else _FILLED
    if matrix[0, 1] != 0.0 or matrix[1, 0] != 0.0 or blur_sigma > 0 or noise_std > 0:
        kind |= _VARIED
    return kind


@entry(**WITHOUT_ARRAYS, **FAST)
def find_bad_cell(  # type: ignore[no-untyped-def]
    addresses, heights, widths, matrices, fill, blur_sigma, noise_std, size, alignment, most_coordinate, most_blur
):
    """Return the row of the first cell that breaks a rule and the number of the rule; -1 and 0 if all are good.

    Bit K of the third value tells whether any cell is of kind K.
    """
    kinds = 0
    for b in range(addresses.shape[0]):
        if addresses[b] == 0 or addresses[b] % alignment != 0:
            return b, ADDRESS, kinds
        if heights[b] < 1:
            return b, HEIGHT, kinds
        if widths[b] < 1:
            return b, WIDTH, kinds
        for axis in range(2):
            row = matrices[b, axis]
            if not (abs(row[0]) + abs(row[1])) * size + abs(row[2]) < most_coordinate:
                return b, MATRIX, kinds
        if math.isinf(fill[b]):
            return b, FILL, kinds
        if not 0 <= blur_sigma[b] <= most_blur:
            return b, BLUR_SIGMA, kinds
        if not 0 <= noise_std[b] < math.inf:
            return b, NOISE_STD, kinds
        kinds |= 1 << _kind_of(matrices[b], fill[b], blur_sigma[b], noise_std[b])
    return -1, 0, kinds


@entry(**WITHOUT_ARRAYS, **FAST)
def transform_range(  # type: ignore[no-untyped-def]
    addresses,
    heights,
    widths,
    matrices,
    fill,
    blur_sigma,
    noise_std,
    noise_seed,
    out,
    flat_out,
    mode,
    kind,
    antialias,
    filled,
    finish,
    scratch,
    varied,
    eps,
    begin,
    end,
):
    """Transform the cells of one kind among begin..end of a batch; arguments as in `transform_cells`, none checked.

    out is float32 (B, S, S); flat_out is the same memory as (B, S * S). scratch and varied are the arrays of
    `_scratch`. antialias, filled and finish are True or None; numba removes the branches that None excludes, so that no
    command waits for code that it does not need: filters without antialias, rotation, shear, blur and noise without
    varied, grey levels outside of the cell without filled, normalisation after the map without finish.
    """
    size = out.shape[1]
    pixel, tap, weight, words, lines, sums = scratch
    for b in range(begin, end):
        if _kind_of(matrices[b], fill[b], blur_sigma[b], noise_std[b]) != kind:
            continue
        height, width = np.int64(heights[b]), np.int64(widths[b])
        source = array_at(addresses[b], height * width, pixel)
        matrix, image, flat = matrices[b], out[b], flat_out[b]
        following = min(b + 1, end - 1)
        ahead = in_parts(addresses[following], np.int64(heights[following]) * widths[following] * pixel.itemsize, size)
        if finish is None:
            sample_axis_aligned(
                source, height, width, matrix, fill[b], filled, mode, eps, tap, weight, words, lines, sums, ahead, image
            )
            continue
        plain = mode != STANDARDIZE and not (blur_sigma[b] > 0 or noise_std[b] > 0)
        filtered = False
        if antialias is not None:  # noqa: SIM102  numba prunes this form only
            if math.hypot(matrix[0, 0], matrix[0, 1]) > 1.0 or math.hypot(matrix[1, 0], matrix[1, 1]) > 1.0:
                filtered = True
                sample_filtered(source, height, width, matrix, fill[b], image, flat)
        if filtered:
            pass
        elif matrix[0, 1] == 0.0 and matrix[1, 0] == 0.0:
            fused = mode if plain else -1
            sample_axis_aligned(
                source,
                height,
                width,
                matrix,
                fill[b],
                filled,
                fused,
                eps,
                tap,
                weight,
                words,
                lines,
                sums,
                ahead,
                image,
            )
            if plain:
                continue
        else:
            if varied is not None:
                pairs, quads, offset, at, _, _ = varied
                if fits_q20(matrix, size, height, width) and (height + 2) * (width + 1) + 2 <= pairs.shape[0]:
                    total = sample_affine(
                        source, height, width, matrix, fill[b], pairs, quads, offset, weight, at, ahead, image
                    )
                    if plain:
                        gain, shift = gain_and_shift(total / (size * size), mode, eps)
                        normalize_in_place(flat, shift, gain)
                        continue
                else:
                    sample_large(source, height, width, matrix, 1.0, 1.0, fill[b], image)
        if varied is not None:
            if blur_sigma[b] > 0:
                blur(image, np.float64(blur_sigma[b]), lines)
            if noise_std[b] > 0:
                add_noise(image, F32(noise_std[b]), noise_seed[b], varied[4], varied[5])
        shift, gain = shift_and_gain(flat, mode, eps)
        normalize_in_place(flat, shift, gain)
