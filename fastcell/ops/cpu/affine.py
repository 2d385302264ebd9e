"""Compiled loops that sample a cell under any affine map, with four taps per output pixel.

Coordinates are those of `fastcell.ops.cpu.resample`. Within a row they are reduced to 32 bits with 20 fractional bits
("Q20"), because a vector register holds twice as many of these.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import FAST, INLINE, INTERNAL
from fastcell.ops.cpu.llvm import bit_width, field, grey_unit, join_words, pair_at, prefetch_part
from fastcell.ops.cpu.resample import Q32_MASK, Q32_WEIGHT, to_q32

F32 = np.float32
Q20_SHIFT = 12
Q20_HALF = 1 << (Q20_SHIFT - 1)
Q20_ONE = np.int32(1 << 20)
Q20_MASK = np.int32((1 << 20) - 1)
Q20_WEIGHT = F32(1.0 / (1 << 20))
# Q20 leaves 11 integer bits and a sign bit. Two pixels are reserved for the ring of zeros and for rounding.
Q20_LIMIT = 2046.0


@njit(**INTERNAL, **FAST)
def _stack_rows(source, height, width, pairs):  # type: ignore[no-untyped-def]
    """Pair each pixel with the one below it, in a ring of zeros, so that one load returns all four taps of a sample.

    Element (y + 1) * (width + 1) + x + 1 of `pairs` packs pixels (x, y) and (x, y + 1). The right ring pixel of a row
    is also the left ring pixel of the next row.
    """
    stride = width + 1
    pairs[: stride + 1] = 0
    for x in range(width):
        pairs[x + 1] = np.uint64(source[x]) << np.uint64(bit_width(source[x]))
    for y in range(height - 1):
        line = pairs[(y + 1) * stride + 1 : (y + 2) * stride + 1]
        above, below = source[y * width : (y + 1) * width], source[(y + 1) * width : (y + 2) * width]
        for x in range(width):
            line[x] = join_words(above[x], below[x])
        line[width] = 0
    line = pairs[height * stride + 1 : (height + 1) * stride + 1]
    for x in range(width):
        line[x] = source[(height - 1) * width + x]
    line[width] = 0
    pairs[(height + 1) * stride : (height + 2) * stride + 1] = 0


@njit(**INLINE, **FAST)
def fits_q20(matrix, size, height, width):  # type: ignore[no-untyped-def]
    """Return whether the coordinates of all output pixels and of the whole cell can be represented in Q20."""
    for axis in range(2):
        across, down, offset = matrix[axis, 0] * size, matrix[axis, 1] * size, matrix[axis, 2]
        lowest, highest = min(across, 0.0) + min(down, 0.0) + offset, max(across, 0.0) + max(down, 0.0) + offset
        if lowest < -Q20_LIMIT or highest > Q20_LIMIT:
            return False
    return max(height, width) < Q20_LIMIT


@njit(**INLINE, **FAST)
def _q20(q32):  # type: ignore[no-untyped-def]
    return np.int32((q32 + Q20_HALF) >> Q20_SHIFT)


@njit(**INLINE, **FAST)
def _place_taps(start, offset, low, high, stride, at, weight):  # type: ignore[no-untyped-def]
    """Write index of the upper left tap and weights; start, low, high are (x, y); offset and weight are rows."""
    (start_x, start_y), (low_x, low_y), (high_x, high_y) = start, low, high
    offset_x, offset_y, weight_x, weight_y = offset[0], offset[1], weight[0], weight[1]
    for x in range(at.shape[0]):
        at_x = min(max(np.int32(start_x + offset_x[x]), low_x), high_x)
        at_y = min(max(np.int32(start_y + offset_y[x]), low_y), high_y)
        at[x] = np.int32(at_y >> 20) * stride + np.int32(at_x >> 20)
        weight_x[x] = F32(np.int32(at_x & Q20_MASK)) * Q20_WEIGHT
        weight_y[x] = F32(np.int32(at_y & Q20_MASK)) * Q20_WEIGHT


@njit(**INLINE, **FAST)
def _mix_taps(quads, weight, unit, out):  # type: ignore[no-untyped-def]
    """Write one row of bilinear samples and return its sum."""
    weight_x, weight_y = weight[0], weight[1]
    total = F32(0.0)
    for x in range(out.shape[0]):
        quad = quads[x]
        upper, lower = field(quad, 0, 4), field(quad, 1, 4)
        upper += weight_x[x] * (field(quad, 2, 4) - upper)
        lower += weight_x[x] * (field(quad, 3, 4) - lower)
        value = (upper + weight_y[x] * (lower - upper)) * unit
        out[x] = value
        total += value
    return total


@njit(**INLINE, **FAST)
def _add_outside(start, offset, height, width, fill, out):  # type: ignore[no-untyped-def]
    """Add the share of `fill` to a row that was sampled from a cell surrounded by zeros, and return the row's sum."""
    (start_x, start_y), offset_x, offset_y = start, offset[0], offset[1]
    end_x, end_y = np.int32((width + 1) << 20), np.int32((height + 1) << 20)
    total = F32(0.0)
    for x in range(out.shape[0]):
        at_x, at_y = np.int32(start_x + offset_x[x]), np.int32(start_y + offset_y[x])
        inside_x = max(min(min(at_x, np.int32(end_x - at_x)), Q20_ONE), np.int32(0))
        inside_y = max(min(min(at_y, np.int32(end_y - at_y)), Q20_ONE), np.int32(0))
        share = F32(1.0) - (F32(inside_x) * Q20_WEIGHT) * (F32(inside_y) * Q20_WEIGHT)
        out[x] += share * fill
        total += share * fill
    return total


@njit(**INTERNAL, **FAST)
def sample_affine(source, height, width, matrix, fill, pairs, quads, offset, weight, at, ahead, image):  # type: ignore[no-untyped-def]
    """Sample a cell bilinearly under a map that satisfies `fits_q20`, and return the sum of the image.

    Scratch arrays: pairs of pixels (>= (height + 2) * (width + 1) + 2,), quads of pixels (S,), offset int32 (2, S),
    weight float32 (2, S), at int32 (S,). Coordinates are counted from the ring, one pixel before the cell, and are
    clipped: at the outermost pixel centres when clamping, or one pixel further out, in the zeros, with a `fill`.
    """
    size = image.shape[0]
    clamp = math.isnan(fill)
    _stack_rows(source, height, width, pairs)
    row_x = to_q32(0.5 * matrix[0, 0] + 0.5 * matrix[0, 1] + matrix[0, 2] + 0.5)
    row_y = to_q32(0.5 * matrix[1, 0] + 0.5 * matrix[1, 1] + matrix[1, 2] + 0.5)
    step_x, step_y = to_q32(matrix[0, 0]), to_q32(matrix[1, 0])
    down_x, down_y = to_q32(matrix[0, 1]), to_q32(matrix[1, 1])
    for x in range(size):
        offset[0, x] = _q20(x * step_x)
        offset[1, x] = _q20(x * step_y)
    ring = 0 if clamp else 1
    low = (np.int32((1 - ring) << 20), np.int32((1 - ring) << 20))
    high = (np.int32((width + ring) << 20), np.int32((height + ring) << 20))
    end_x, end_y, unit = offset[0, size - 1], offset[1, size - 1], grey_unit(source)
    total = 0.0
    for y in range(size):
        prefetch_part(ahead, y)
        start_x, start_y, out = _q20(row_x), _q20(row_y), image[y]
        _place_taps((start_x, start_y), offset, low, high, np.int32(width + 1), at, weight)
        for x in range(size):
            quads[x] = pair_at(pairs, np.int64(at[x]))
        total += _mix_taps(quads, weight, unit, out)
        if not clamp:
            last_x, last_y = np.int32(start_x + end_x), np.int32(start_y + end_y)
            if (
                min(start_x, last_x, start_y, last_y) < Q20_ONE
                or max(start_x, last_x) > width << 20
                or max(start_y, last_y) > height << 20
            ):
                total += _add_outside((start_x, start_y), offset, height, width, fill, out)
        row_x += down_x
        row_y += down_y
    return total


@njit(**INLINE, **FAST)
def _inside(at, step, limit, size):  # type: ignore[no-untyped-def]
    """Return the first and the past-the-end x of [0, size) with 0 <= at + x * step <= limit."""
    first, last = 0, size
    if step > 0:
        first = max(first, -(at // step))
        last = min(last, (limit - at) // step + 1)
    elif step < 0:
        first = max(first, -((limit - at) // -step))
        last = min(last, at // -step + 1)
    elif at < 0 or at > limit:
        last = 0
    return first, max(first, last)


@njit(**INLINE, **FAST)
def _pixel(source, height, width, x, y, clamp, fill):  # type: ignore[no-untyped-def]
    """Return one grey level of a cell that is extended without limit by its border pixels or by `fill`."""
    if not clamp and (x < 0 or x >= width or y < 0 or y >= height):
        return fill
    place = np.uint64(min(max(y, 0), height - 1) * width + min(max(x, 0), width - 1))
    return F32(source[place]) * grey_unit(source)


@njit(**INLINE, **FAST)
def _sample_at_edge(source, height, width, fx, fy, clamp, fill):  # type: ignore[no-untyped-def]
    """Return one bilinear sample whose taps may lie outside the cell."""
    x0, y0 = fx >> 32, fy >> 32
    wx, wy = F32(fx & Q32_MASK) * Q32_WEIGHT, F32(fy & Q32_MASK) * Q32_WEIGHT
    a = _pixel(source, height, width, x0, y0, clamp, fill)
    c = _pixel(source, height, width, x0 + 1, y0, clamp, fill)
    d = _pixel(source, height, width, x0, y0 + 1, clamp, fill)
    e = _pixel(source, height, width, x0 + 1, y0 + 1, clamp, fill)
    a += wx * (c - a)
    d += wx * (e - d)
    return a + wy * (d - a)


@njit(**INTERNAL, **FAST)
def sample_large(source, height, width, matrix, scale_x, scale_y, fill, image):  # type: ignore[no-untyped-def]
    """Sample a cell bilinearly under any affine map, pixel by pixel.

    Used for cells that are too large for Q20 coordinates, or if pairing the pixels would cost more than it saves.
    `source` holds flat pixels or float32 grey levels; one of its elements measures scale_x by scale_y pixels.
    """
    size = image.shape[0]
    clamp = math.isnan(fill)
    level, unit = F32(0.0) if clamp else fill, grey_unit(source)
    height, width = np.int64(height), np.int64(width)
    row_x = to_q32((0.5 * matrix[0, 0] + 0.5 * matrix[0, 1] + matrix[0, 2]) / scale_x - 0.5)
    row_y = to_q32((0.5 * matrix[1, 0] + 0.5 * matrix[1, 1] + matrix[1, 2]) / scale_y - 0.5)
    step_x, step_y = to_q32(matrix[0, 0] / scale_x), to_q32(matrix[1, 0] / scale_y)
    down_x, down_y = to_q32(matrix[0, 1] / scale_x), to_q32(matrix[1, 1] / scale_y)
    limit_x, limit_y = ((width - 1) << 32) - 1, ((height - 1) << 32) - 1
    for y in range(size):
        out = image[y]
        first_x, last_x = _inside(row_x, step_x, limit_x, size)
        first_y, last_y = _inside(row_y, step_y, limit_y, size)
        first, last = max(first_x, first_y), min(last_x, last_y)
        if first >= last:
            first = last = size
        for x in range(first):
            out[x] = _sample_at_edge(source, height, width, row_x + x * step_x, row_y + x * step_y, clamp, level)
        fx, fy = row_x + first * step_x, row_y + first * step_y
        for x in range(first, last):
            at = np.uint64((fy >> 32) * width + (fx >> 32))
            below = at + np.uint64(width)
            wx, wy = F32(np.uint32(fx & Q32_MASK)) * Q32_WEIGHT, F32(np.uint32(fy & Q32_MASK)) * Q32_WEIGHT
            a, c = F32(source[at]), F32(source[at + np.uint64(1)])
            d, e = F32(source[below]), F32(source[below + np.uint64(1)])
            a += wx * (c - a)
            d += wx * (e - d)
            out[x] = (a + wy * (d - a)) * unit
            fx += step_x
            fy += step_y
        for x in range(last, size):
            out[x] = _sample_at_edge(source, height, width, row_x + x * step_x, row_y + x * step_y, clamp, level)
        row_x += down_x
        row_y += down_y
