"""Compiled loops that sample a cell under an axis-aligned map, with two taps per axis and the horizontal pass first.

Coordinates are signed 64-bit fixed point with 32 fractional bits ("Q32"). Single precision would miss the 1e-5 error
bound on wide cells, and integer steps give the same taps and weights in every order of evaluation and on every device.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import FAST, INLINE, INTERNAL
from fastcell.ops.cpu.llvm import field, grey_unit, pair_at, prefetch_part
from fastcell.ops.cpu.normalize import gain_and_shift

F32 = np.float32
Q32_ONE = 4294967296.0
Q32_MASK = np.int64(0xFFFFFFFF)
Q32_WEIGHT = F32(1.0 / 4294967296.0)


@njit(**INLINE, **FAST)
def to_q32(value):  # type: ignore[no-untyped-def]
    return np.int64(np.rint(value * Q32_ONE))


@njit(**INTERNAL, **FAST)
def _bilinear_taps(scale, offset, length, clamp, filled, size, low, weight_low, weight_high, outside):  # type: ignore[no-untyped-def]
    """Fill the table of one axis: sample = weight_low * s[low] + weight_high * s[low + 1] + outside * fill.

    low + 1 is also a valid index, unless the axis has one pixel; in that case weight_high is 0.
    """
    at = to_q32(0.5 * scale + offset - 0.5)
    step = to_q32(scale)
    last = np.int64(length - 1)
    for x in range(size):
        first = at >> 32
        weight = F32(at & Q32_MASK) * Q32_WEIGHT
        place = min(max(first, 0), max(last - 1, 0))
        low[x] = np.uint32(place)
        if clamp:
            weight_high[x] = F32(0.0) if first < 0 or last == 0 else F32(1.0) if first >= last else weight
            weight_low[x] = F32(1.0) - weight_high[x]
            outside[x] = F32(0.0)
        else:
            if filled is not None:  # numba prunes this form only
                near = F32(1.0) - weight if 0 <= first <= last else F32(0.0)
                far = weight if -1 <= first < last else F32(0.0)
                weight_low[x] = near if first == place else far if first < place else F32(0.0)
                weight_high[x] = far if first == place else near if first > place else F32(0.0)
                outside[x] = (F32(1.0) - weight - near) + (weight - far)
        at += step


@njit(**INTERNAL, **FAST)
def _resample_row(source, start, width, low, weight_low, weight_high, outside, fill, filled, identity, pairs, line):  # type: ignore[no-untyped-def]
    """Write the horizontal pass of one source row to `line` and return the row's sum; NaN `fill`: edge is repeated."""
    total, unit, size = F32(0.0), grey_unit(source), line.shape[0]
    if identity:
        row = source[start : start + size]
        for x in range(size):
            value = F32(row[x]) * unit
            line[x] = value
            total += value
        return total
    if width > 1:
        for x in range(size):
            pairs[x] = pair_at(source, start + np.int64(low[x]))
    else:
        pairs[:] = source[start]
    if math.isnan(fill):  # this form reproduces a constant row exactly
        for x in range(size):
            value = field(pairs[x], 0, 2)
            value = (value + weight_high[x] * (field(pairs[x], 1, 2) - value)) * unit
            line[x] = value
            total += value
    else:
        if filled is not None:
            for x in range(size):
                value = weight_low[x] * field(pairs[x], 0, 2) + weight_high[x] * field(pairs[x], 1, 2)
                value = value * unit + outside[x] * fill
                line[x] = value
                total += value
    return total


@njit(**INTERNAL, **FAST)
def _copy_corner(source, width, mode, eps, ahead, image):  # type: ignore[no-untyped-def]
    """Do the work of `sample_axis_aligned` for the identity map: copy the upper left square of the cell."""
    size = image.shape[0]
    total = np.int64(0)
    for y in range(size):
        row, row_total = source[y * width : y * width + size], np.int32(0)
        for x in range(size):
            row_total += np.int32(row[x])
        total += row_total
    unit = grey_unit(source)
    gain, shift = gain_and_shift(total * unit / (size * size), mode, eps)
    for y in range(size):
        prefetch_part(ahead, y)
        row, out = source[y * width : y * width + size], image[y]
        for x in range(size):
            out[x] = F32(row[x]) * (gain * unit) - shift


@njit(**INTERNAL, **FAST)
def sample_axis_aligned(  # type: ignore[no-untyped-def]
    source, height, width, matrix, fill, filled, mode, eps, tap, weight, pairs, lines, sums, ahead, image
):
    """Sample a cell bilinearly under an axis-aligned map; normalise while writing if `mode` is divide or subtract.

    Scratch arrays: tap uint32 (4, S), weight float32 (6, S), pairs of pixels (S,), lines float32 (2 S, S), sums float32
    (2 S,). `filled` is True if the cell has a `fill`, else None. Only source rows that an output row needs
    are resampled; neighbouring output rows share them.
    """
    size = image.shape[0]
    clamp = math.isnan(fill)
    level = F32(0.0) if clamp else fill
    _bilinear_taps(matrix[0, 0], matrix[0, 2], width, clamp, filled, size, tap[0], weight[0], weight[1], weight[2])
    _bilinear_taps(matrix[1, 1], matrix[1, 2], height, clamp, filled, size, tap[1], weight[3], weight[4], weight[5])
    identity = matrix[0, 0] == 1.0 and matrix[0, 2] == 0.0 and width >= size
    if identity and matrix[1, 1] == 1.0 and matrix[1, 2] == 0.0 and height >= size:
        _copy_corner(source, width, mode, eps, ahead, image)
        return

    used, held_a, held_b, slot_a, slot_b = 0, -1, -1, 0, 0
    total = 0.0
    for y in range(size):
        prefetch_part(ahead, y)
        a = np.int64(tap[1, y])
        b = min(a + 1, height - 1)
        new_a = slot_a if a == held_a else slot_b if a == held_b else -1
        new_b = slot_a if b == held_a else slot_b if b == held_b else -1
        for row in (a, b):
            if (row == a and new_a >= 0) or (row == b and new_b >= 0):
                continue
            sums[used] = _resample_row(
                source,
                row * width,
                width,
                tap[0],
                weight[0],
                weight[1],
                weight[2],
                fill,
                filled,
                identity,
                pairs,
                lines[used],
            )
            new_a = used if row == a else new_a
            new_b = used if row == b else new_b
            used += 1
        held_a, held_b, slot_a, slot_b = a, b, new_a, new_b
        tap[2, y] = new_a
        tap[3, y] = new_b
        total += weight[3, y] * sums[new_a] + weight[4, y] * sums[new_b] + weight[5, y] * level * F32(size)

    gain, shift = gain_and_shift(total / (size * size), mode, eps)
    for y in range(size):
        la, lb, out = lines[tap[2, y]], lines[tap[3, y]], image[y]
        if clamp:
            share = weight[4, y]
            for x in range(size):
                value = la[x]
                out[x] = (value + share * (lb[x] - value)) * gain - shift
        else:
            if filled is not None:
                ca, cb, cc = weight[3, y] * gain, weight[4, y] * gain, weight[5, y] * level * gain - shift
                for x in range(size):
                    out[x] = ca * la[x] + cb * lb[x] + cc
