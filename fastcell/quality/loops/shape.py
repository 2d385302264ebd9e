"""Compiled loops that measure the shapes of the objects of a cell on the grid, as shares of the frame."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import ALLOCATING, OPTIONS, entry
from fastcell.quality.loops.columns import (
    BORDER_CONTACT,
    CONTRAST,
    ELONGATION,
    FLAT_SIDE,
    FOREGROUND,
    NECK,
    NOISE,
    OBJECTS,
    SECOND_OBJECT,
    SHARPNESS,
    SNR,
    SOLIDITY,
)
from fastcell.quality.loops.focus import sharpness
from fastcell.quality.loops.grid import BINS, SIDE
from fastcell.quality.loops.segment import (
    MIN_AREA,
    NONE,
    ONE,
    count_bits,
    erode,
    first_bit,
    flood,
    last_bit,
    segment,
    split_objects,
    subtract_background,
)

SECOND_SHARE = 0.25  # smallest area of a counted object, as a share of the largest one
CLOSE = 1  # half the width of closed gaps [grid points]; a larger value would join neighbouring cells


@njit(**ALLOCATING)
def _box(part):  # type: ignore[no-untyped-def]
    """Return the outermost rows and columns of an object: top, bottom, left, right."""
    top, bottom, columns = SIDE, -1, NONE
    for y in range(SIDE):
        if part[y]:
            top, bottom, columns = min(top, y), y, columns | part[y]
    return top, bottom, first_bit(columns), last_bit(columns)


@njit(**ALLOCATING)
def _flat_side(part, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """Return the largest filled share of an object's four outermost lines; near 1 if a straight edge cuts it."""
    on_left, on_right = 0, 0
    for y in range(top, bottom + 1):
        on_left += np.int64((part[y] >> np.uint64(left)) & ONE)
        on_right += np.int64((part[y] >> np.uint64(right)) & ONE)
    across = max(count_bits(part[top]), count_bits(part[bottom])) / (right - left + 1)
    return max(across, max(on_left, on_right) / (bottom - top + 1))


@njit(**ALLOCATING)
def _below_chord(values, num):  # type: ignore[no-untyped-def]
    """Return the area under the lower convex hull of the points (i, values[i]), i < num."""
    hull = np.empty(num, np.int64)
    size = 0
    for i in range(num):
        while size > 1:
            a, b = hull[size - 2], hull[size - 1]
            if (values[b] - values[a]) * (i - a) < (values[i] - values[a]) * (b - a):
                break
            size -= 1
        hull[size] = i
        size += 1
    total = 0.0
    for k in range(1, size):
        a, b = hull[k - 1], hull[k]
        total += 0.5 * (values[a] + values[b]) * (b - a)
    return total


@njit(**ALLOCATING)
def _solidity(part, area, top, bottom):  # type: ignore[no-untyped-def]
    """Return the area of an object as a share of its convex hull."""
    num = bottom - top + 2
    lows, highs = np.full(num, float(SIDE)), np.full(num, float(SIDE))
    for y in range(top, bottom + 1):
        first, last = float(first_bit(part[y])), float(last_bit(part[y]))
        for k in range(y - top, y - top + 2):
            lows[k], highs[k] = min(lows[k], first), min(highs[k], -last - 1)
    return area / (-_below_chord(highs, num) - _below_chord(lows, num))


@njit(**ALLOCATING)
def _elongation(part, area, top, bottom):  # type: ignore[no-untyped-def]
    """Return the ratio of the axes of the ellipse with the second moments of an object."""
    y1, x1, yy, xx, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for y in range(top, bottom + 1):
        word = part[y]
        num, sum_x = 0, 0
        while word:
            x = first_bit(word)
            word &= word - ONE
            num += 1
            sum_x += x
            xx += x * x
        y1 += y * num
        x1 += sum_x
        yy += y * y * num
        xy += y * sum_x
    y1, x1 = y1 / area, x1 / area
    yy, xx, xy = yy / area - y1 * y1 + 1 / 12, xx / area - x1 * x1 + 1 / 12, xy / area - y1 * x1
    middle, half = 0.5 * (yy + xx), math.sqrt(0.25 * (yy - xx) ** 2 + xy * xy)
    return math.sqrt((middle + half) / max(middle - half, 1 / 12))


@njit(**ALLOCATING)
def _neck(part, top, layers):  # type: ignore[no-untyped-def]
    """Return how narrow an object is between its two thickest parts: 0 for one part, near 1 for two that barely touch.

    The object is eroded until no point is left. Points beyond the frame count as not set. The result follows from the
    first erosion that leaves two parts of which both survive three quarters of all erosions. `layers` holds (SIDE,
    SIDE) words of scratch memory.
    """
    layers[0] = part
    num = 0
    while layers[num].any():
        erode(layers[num], layers[num + 1], NONE, num % 2 == 1)
        num += 1
    last = max(3 * num // 4, 1)
    found, rest = np.empty(SIDE, np.uint64), np.empty(SIDE, np.uint64)
    for step in range(1, min(last + 1, num)):
        rest[:] = layers[step]
        parts = 0
        for y in range(top, SIDE):
            while rest[y] & layers[last, y]:
                seed = rest[y] & layers[last, y]
                found[:] = NONE
                found[y] = seed & (~seed + ONE)
                flood(rest, found, top, True)
                rest &= ~found
                parts += 1
        if parts > 1:
            return 1.0 - step / num
    return 0.0


@njit(**ALLOCATING)
def _border_contact(part):  # type: ignore[no-untyped-def]
    """Return the largest share of an edge of the frame that an object covers."""
    on_left, on_right = 0, 0
    for y in range(SIDE):
        on_left += np.int64(part[y] & ONE)
        on_right += np.int64(part[y] >> np.uint64(SIDE - 1))
    return max(count_bits(part[0]), count_bits(part[SIDE - 1]), on_left, on_right) / SIDE


@entry(**OPTIONS)
def measure_shapes(grids, window, flats, out):  # type: ignore[no-untyped-def]
    """Write the features that are measured on the grid.

    Args:
        grids: (n, SIDE, SIDE) float32.
        window: (SIDE,) float32, taper of the Fourier transform along each axis.
        flats: (n, SIDE, SIDE) float32, written: grid minus background, tapered.
        out: (n, F) float32, written in part.
    """
    most = SIDE * SIDE // MIN_AREA
    counts, areas = np.empty(BINS, np.int32), np.zeros(most + 1, np.int32)
    mask, objects, layers = (
        np.empty(SIDE, np.uint64),
        np.empty((most + 1, SIDE), np.uint64),
        np.empty((SIDE, SIDE), np.uint64),
    )
    for b in range(grids.shape[0]):
        row, flat = out[b], flats[b]
        noise, contrast = subtract_background(grids[b], counts, flat)
        row[NOISE], row[CONTRAST], row[SNR] = noise, contrast, math.log10(contrast / noise)
        row[SHARPNESS] = sharpness(grids[b], contrast, counts)
        segment(flat, noise, contrast, mask, CLOSE)
        areas[0] = 0
        num = split_objects(mask, objects, areas)
        total, counted, second = 0, 0, 0
        row[BORDER_CONTACT] = row[FLAT_SIDE] = row[NECK] = 0.0
        row[SOLIDITY] = row[ELONGATION] = 1.0
        for label in range(num):
            part, area = objects[label], areas[label]
            total += area
            second = max(second, area if label else 0)
            if area < SECOND_SHARE * areas[0]:
                continue
            counted += 1
            top, bottom, left, right = _box(part)
            row[BORDER_CONTACT] = max(row[BORDER_CONTACT], _border_contact(part))
            row[FLAT_SIDE] = max(row[FLAT_SIDE], _flat_side(part, top, bottom, left, right))
            if label == 0:
                row[SOLIDITY] = _solidity(part, area, top, bottom)
                row[ELONGATION] = _elongation(part, area, top, bottom)
                row[NECK] = _neck(part, top, layers)
        row[FOREGROUND], row[OBJECTS] = total / (SIDE * SIDE), counted
        row[SECOND_OBJECT] = second / areas[0] if num else 0.0
        for y in range(SIDE):
            for x in range(SIDE):
                flat[y, x] *= window[y] * window[x]
