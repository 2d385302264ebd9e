"""Compiled loop over the original pixels of a cell: size, levels, background, saturation and focus.

The loop also resamples the cell to the grid.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import ALLOCATING, OPTIONS, entry
from fastcell.quality.loops.columns import (
    BACKGROUND,
    BACKGROUND_SPREAD,
    FOCUS,
    HEIGHT,
    MEAN_INTENSITY,
    SATURATED_HIGH,
    SATURATED_LOW,
    WIDTH,
)
from fastcell.quality.loops.focus import laplacian_variance
from fastcell.quality.loops.grid import level_at, resample


@njit(**ALLOCATING)
def _count_border(source, height, width, counts):  # type: ignore[no-untyped-def]
    """Count the levels of the outermost frame of pixels, and return the number of these pixels.

    The counts give median and spread without sorting. Between two middle values the median is the lower one, whereas
    `fastcell.ops.border.border_median` takes their mean.
    """
    num = 0
    for y in range(height):
        inner = 0 < y < height - 1
        step = max(width - 1, 1) if inner else 1
        for x in range(0, width, step):
            counts[source[y * width + x]] += 1
            num += 1
    return num


@entry(**OPTIONS)
def measure_pixels(pixels, offsets, heights, widths, grids, out):  # type: ignore[no-untyped-def]
    """Resample cells to the grid and write the features that are measured on the original pixels.

    Args:
        pixels: uint8, flat pool.
        offsets: (n,) int64, start of each cell in the pool.
        heights, widths: (n,) int32, >= 1.
        grids: (n, SIDE, SIDE) float32, written.
        out: (n, F) float32, written in part.
    """
    for b in range(offsets.shape[0]):
        height, width = np.int64(heights[b]), np.int64(widths[b])
        size = height * width
        source = pixels[offsets[b] : offsets[b] + size]
        counts = np.zeros(256, np.int64)
        for i in range(size):
            counts[source[i]] += 1
        total = 0.0
        for level in range(256):
            total += float(level) * counts[level]
        row = out[b]
        row[HEIGHT], row[WIDTH], row[MEAN_INTENSITY] = height, width, total / size
        row[SATURATED_LOW], row[SATURATED_HIGH] = counts[0] / size, counts[255] / size
        counts[:] = 0
        num = _count_border(source, height, width, counts)
        middle = level_at(counts, (num - 1) // 2)
        away = np.zeros(256, np.int64)
        for level in range(256):
            away[abs(level - middle)] += counts[level]
        row[BACKGROUND], row[BACKGROUND_SPREAD] = middle, 1.4826 * level_at(away, (num - 1) // 2)
        row[FOCUS] = math.log10(laplacian_variance(source, height, width) + 0.1)
        resample(source, height, width, grids[b])
