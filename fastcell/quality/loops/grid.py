"""Compiled loops that resample a cell to a grid of `SIDE` x `SIDE` points, and histograms of grid levels.

Measurements on the grid are shares of the frame and do not depend on the frame size in pixels, which differs between
instruments and crops. The time per cell does not depend on the frame size either. Grid levels are counted in bins of
`BIN` grey levels, which is sufficient for quantiles.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import ALLOCATING

SIDE = 64
BINS, BIN = 2048, 0.25


@njit(**ALLOCATING)
def _axis(size):  # type: ignore[no-untyped-def]
    """Return first pixel, number of pixels and weights of each grid line.

    The weights are area averages if there are more pixels than grid lines, else linear interpolation.
    """
    scale = size / SIDE
    most = math.ceil(scale) + 1 if size > SIDE else 2
    first, count = np.zeros(SIDE, np.int64), np.zeros(SIDE, np.int64)
    weight = np.zeros((SIDE, most), np.float32)
    for j in range(SIDE):
        if size > SIDE:
            low, high = j * scale, min((j + 1) * scale, float(size))
            first[j] = int(low)
            for i in range(int(low), min(math.ceil(high), size)):
                share = min(high, i + 1.0) - max(low, float(i))
                if i - first[j] < most:
                    weight[j, i - first[j]] = max(share, 0.0) / scale
                    count[j] = i - first[j] + 1
        else:
            place = min(max((j + 0.5) * scale - 0.5, 0.0), size - 1.0)
            first[j] = min(int(place), size - 1)
            count[j] = min(2, size - first[j])
            share = place - first[j]
            weight[j, 0] = 1.0 - share if count[j] == 2 else 1.0
            if count[j] == 2:
                weight[j, 1] = share
    return first, count, weight


@njit(**ALLOCATING)
def _resample_line(line, axis, out):  # type: ignore[no-untyped-def]
    first, count, weight = axis
    for j in range(SIDE):
        total, start = np.float32(0.0), first[j]
        for k in range(count[j]):
            total += weight[j, k] * np.float32(line[start + k])
        out[j] = total


@njit(**ALLOCATING)
def resample(source, height, width, grid):  # type: ignore[no-untyped-def]
    """Resample an image to the grid, columns first, then rows.

    The memory used is at most some lines of the grid, whatever the height of the image.
    """
    across = _axis(width)
    if height > SIDE:
        line = np.empty(SIDE, np.float32)
        scale = height / SIDE
        grid[:] = np.float32(0.0)
        for y in range(height):
            _resample_line(source[y * width : (y + 1) * width], across, line)
            i = min(int(y / scale), SIDE - 1)
            inside = min((i + 1) * scale - y, 1.0)
            here, next_share = np.float32(inside / scale), np.float32((1.0 - inside) / scale)
            for j in range(SIDE):
                grid[i, j] += here * line[j]
            if i + 1 < SIDE and next_share > 0:
                for j in range(SIDE):
                    grid[i + 1, j] += next_share * line[j]
        return
    lines = np.empty((height, SIDE), np.float32)
    for y in range(height):
        _resample_line(source[y * width : (y + 1) * width], across, lines[y])
    first, count, weight = _axis(height)
    for i in range(SIDE):
        out = grid[i]
        out[:] = np.float32(0.0)
        for k in range(count[i]):
            share, line = weight[i, k], lines[first[i] + k]
            for j in range(SIDE):
                out[j] += share * line[j]


@njit(**ALLOCATING)
def bin_of(value):  # type: ignore[no-untyped-def]
    return min(int(value / BIN), BINS - 1)


@njit(**ALLOCATING)
def level_at(counts, rank):  # type: ignore[no-untyped-def]
    """Return the smallest level with more than `rank` counts at or below it."""
    total = 0
    for level in range(counts.shape[0]):
        total += counts[level]
        if total > rank:
            return level
    return counts.shape[0] - 1
