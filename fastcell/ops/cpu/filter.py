"""Compiled loops of the low-pass filters: a triangle filter before down-scaling, and a Gaussian blur of the output."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fastcell.ops.cpu.affine import sample_large
from fastcell.ops.cpu.compiled_loops import ALLOCATING, FAST, INLINE, INTERNAL
from fastcell.ops.cpu.llvm import grey_unit

F32 = np.float32


# ---------------------------------------------------------------------------------------------------------------------
# Down-scaling.


@njit(**INTERNAL, **FAST)
def _triangle_taps(scale, offset, length, clamp, size, first, count, weight):  # type: ignore[no-untyped-def]
    """Fill the triangle filter table of one axis; weight (size, most taps + 1) ends with the share of the outside."""
    reach = max(abs(scale), 1.0)
    for x in range(size):
        centre = scale * (x + 0.5) + offset
        if clamp:
            centre = min(max(centre, 0.5), length - 0.5)
        begin, end = math.floor(centre - reach + 0.5), math.floor(centre + reach + 0.5)
        low = np.int64(min(max(begin, 0), length))
        high = np.int64(min(max(end, 0), length))
        total, inside = 0.0, 0.0
        for i in range(np.int64(begin), np.int64(end)):
            share = max(0.0, 1.0 - abs(i + 0.5 - centre) / reach)
            total += share
            if low <= i < high:
                inside += share
                weight[x, i - low] = share
        if clamp:
            total = inside
        first[x], count[x] = low, max(high - low, 0)
        for k in range(count[x]):
            weight[x, k] = F32(weight[x, k] / total)
        weight[x, weight.shape[1] - 1] = F32(1.0 - inside / total)


@njit(**ALLOCATING, **FAST)
def _resample_filtered(source, height, width, sx, ox, sy, oy, fill, rows, columns, flat):  # type: ignore[no-untyped-def]
    """Apply a separable triangle filter under an axis-aligned map and write to `flat` (rows * columns,)."""
    clamp = math.isnan(fill)
    level = F32(0.0) if clamp else fill
    first_x, count_x = np.empty(columns, np.int64), np.empty(columns, np.int64)
    first_y, count_y = np.empty(rows, np.int64), np.empty(rows, np.int64)
    weight_x = np.zeros((columns, np.int64(2 * max(abs(sx), 1.0)) + 4), np.float32)
    weight_y = np.zeros((rows, np.int64(2 * max(abs(sy), 1.0)) + 4), np.float32)
    _triangle_taps(sx, ox, width, clamp, columns, first_x, count_x, weight_x)
    _triangle_taps(sy, oy, height, clamp, rows, first_y, count_y, weight_y)
    lines = np.empty((height, columns), np.float32)
    for r in range(height):
        start = r * width
        for x in range(columns):
            value = F32(0.0)
            for k in range(count_x[x]):
                value += weight_x[x, k] * F32(source[np.uint64(start + first_x[x] + k)])
            lines[r, x] = value * grey_unit(source) + weight_x[x, weight_x.shape[1] - 1] * level
    for y in range(rows):
        out = flat[y * columns : (y + 1) * columns]
        for x in range(columns):
            out[x] = weight_y[y, weight_y.shape[1] - 1] * level
        for k in range(count_y[y]):
            share, line = weight_y[y, k], lines[first_y[y] + k]
            for x in range(columns):
                out[x] += share * line[x]


@njit(**ALLOCATING, **FAST)
def sample_filtered(source, height, width, matrix, fill, image, flat):  # type: ignore[no-untyped-def]
    """Sample a cell with a low-pass filter.

    A map that rotates is split in two: the cell is filtered to the target scale first, then sampled bilinearly.
    `flat` is `image` (S, S) as one dimension.
    """
    sx, sy = matrix[0, 0], matrix[1, 1]
    if matrix[0, 1] == 0.0 and matrix[1, 0] == 0.0:
        size = image.shape[0]
        _resample_filtered(source, height, width, sx, matrix[0, 2], sy, matrix[1, 2], fill, size, size, flat)
        return
    small_width = np.int64(math.ceil(width / max(1.0, math.hypot(sx, matrix[0, 1])) - 1e-9))
    small_height = np.int64(math.ceil(height / max(1.0, math.hypot(matrix[1, 0], sy)) - 1e-9))
    scale_x, scale_y = width / small_width, height / small_height
    small = np.empty(small_height * small_width, np.float32)
    no_fill = F32(np.nan)
    _resample_filtered(source, height, width, scale_x, 0.0, scale_y, 0.0, no_fill, small_height, small_width, small)
    sample_large(small, small_height, small_width, matrix, scale_x, scale_y, fill, image)


# ---------------------------------------------------------------------------------------------------------------------
# Blur, in place.


@njit(**INLINE, **FAST)
def _mirror(i, size):  # type: ignore[no-untyped-def]
    """Reflect an index about the centres of the outermost pixels (dcb|abcd|cba)."""
    if size == 1:
        return 0
    period = 2 * (size - 1)
    i %= period
    return period - i if i >= size else i


@njit(**ALLOCATING, **FAST)
def _gaussian_taps(sigma):  # type: ignore[no-untyped-def]
    """Return the centre and one half of a Gaussian of radius ceil(3 sigma), zero-padded to an odd half width >= 3."""
    radius = np.int64(math.ceil(3.0 * sigma))
    weight = np.zeros(max(2 * (radius // 2) + 2, 4), np.float32)
    total = 0.0
    for j in range(radius + 1):
        share = math.exp(-0.5 * j * j / (sigma * sigma))
        weight[j] = share
        total += share if j == 0 else 2.0 * share
    for j in range(radius + 1):
        weight[j] = F32(weight[j] / total)
    return weight


@njit(**INLINE, **FAST)
def _first_taps(weight, middle, left, right, line):  # type: ignore[no-untyped-def]
    """Apply seven taps in one pass: a pass over a line costs more than a tap of weight zero."""
    (left1, left2, left3), (right1, right2, right3) = left, right
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    for x in range(line.shape[0]):
        near = w0 * middle[x] + w1 * (left1[x] + right1[x])
        line[x] = near + w2 * (left2[x] + right2[x]) + w3 * (left3[x] + right3[x])


@njit(**INLINE, **FAST)
def _more_taps(weight, j, left, right, line):  # type: ignore[no-untyped-def]
    """Add taps j and j + 1 on both sides of the centre."""
    (left0, left1), (right0, right1) = left, right
    w0, w1 = weight[j], weight[j + 1]
    for x in range(line.shape[0]):
        line[x] += w0 * (left0[x] + right0[x]) + w1 * (left1[x] + right1[x])


@njit(**ALLOCATING, **FAST)
def blur(image, sigma, lines):  # type: ignore[no-untyped-def]
    """Blur with a separable Gaussian of radius ceil(3 sigma), mirrored at the border.

    Scratch array: lines float32 (>= S, S).
    """
    size = image.shape[0]
    weight = _gaussian_taps(sigma)
    reach = weight.shape[0] - 1
    place = np.empty(size + 2 * reach, np.uint64)
    for i in range(size + 2 * reach):
        place[i] = _mirror(i - reach, size)
    padded = np.empty(size + 2 * reach, np.float32)
    middle = padded[reach:]
    left1, left2, left3 = padded[reach - 1 :], padded[reach - 2 :], padded[reach - 3 :]
    right1, right2, right3 = padded[reach + 1 :], padded[reach + 2 :], padded[reach + 3 :]
    for y in range(size):
        source, line = image[y], lines[y]
        for x in range(size):
            middle[x] = source[x]
        for j in range(reach):
            padded[j] = source[place[j]]
            right1[size - 1 + j] = source[place[reach + size + j]]
        _first_taps(weight, middle, (left1, left2, left3), (right1, right2, right3), line)
        for j in range(4, reach, 2):
            before = padded[reach - j :], padded[reach - j - 1 :]
            after = padded[reach + j :], padded[reach + j + 1 :]
            _more_taps(weight, j, before, after, line)
    for y in range(size):
        at, out = y + reach, image[y]
        left = lines[place[at - 1]], lines[place[at - 2]], lines[place[at - 3]]
        right = lines[place[at + 1]], lines[place[at + 2]], lines[place[at + 3]]
        _first_taps(weight, lines[y], left, right, out)
        for j in range(4, reach, 2):
            above = lines[place[at - j]], lines[place[at - j - 1]]
            below = lines[place[at + j]], lines[place[at + j + 1]]
            _more_taps(weight, j, above, below, out)
