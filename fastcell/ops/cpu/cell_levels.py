"""Compiled loop that measures raw cells: the sum of their pixels and the median of their outermost frame."""

from __future__ import annotations

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import INTERNAL, OPTIONS, entry


@njit(**INTERNAL)
def _median(counts, size):  # type: ignore[no-untyped-def]
    """Return the median of `size` values from 0 to 255, given how often each occurs."""
    lower, upper = (size - 1) // 2, size // 2
    seen, first = np.int64(0), np.int64(-1)
    for value in range(256):
        seen += counts[value]
        if first < 0 and seen > lower:
            first = value
        if seen > upper:
            return (first + value) / 2
    return 0.0


@entry(**OPTIONS)
def measure_levels(pixels, offsets, heights, widths, sums, medians):  # type: ignore[no-untyped-def]
    """Measure B cells; each pixel of a frame counts once.

    Args:
        pixels: uint8, one dimension.
        offsets: (B,) int64, first pixel of each cell.
        heights, widths: (B,) int32, at least 1 [px].
        sums: (B,) int64, receives the sum of the pixels.
        medians: (B,) float64, receives the median of the frame: the middle value, or the mean of the two middle ones.
    """
    counts = np.empty(256, np.int64)
    for cell in range(len(offsets)):
        height, width = np.int64(heights[cell]), np.int64(widths[cell])
        image = pixels[offsets[cell] : offsets[cell] + height * width]
        total = np.int64(0)
        for place in range(height * width):
            total += image[place]
        sums[cell] = total
        counts[:] = 0
        last = (height - 1) * width
        for column in range(width):
            counts[image[column]] += 1
            if height > 1:
                counts[image[last + column]] += 1
        for row in range(1, height - 1):
            counts[image[row * width]] += 1
            if width > 1:
                counts[image[row * width + width - 1]] += 1
        size = height * width if min(height, width) <= 2 else 2 * (height + width) - 4
        medians[cell] = _median(counts, size)
