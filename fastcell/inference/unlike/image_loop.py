"""Compiled loop that measures network images: brightness by radius, size and place, and noise at the rim.

Noise is measured in 2 x 2 squares along the outermost eighth of the image, at full size and at half size (2 x 2 means).
All other features are measured on a small image, halved until its side is at most `MOST_SIDE` pixels, so their cost
does not depend on the size of the image.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import FAST, INLINED, INTERNAL, WITHOUT_ARRAYS, entry

MOST_SIDE = 32  # of the small image; its side is above half of this unless the image itself is smaller
NUM_RINGS = 8
(
    BACKGROUND, BACKGROUND_SPREAD, CONTRAST, SKEWNESS, KURTOSIS, DARKEST, BRIGHTEST, SUBJECT, RADIUS, OFF_CENTRE,
    ELONGATION, FIRST_RING,
) = range(12)  # fmt: skip
FIRST_NOISE = FIRST_RING + NUM_RINGS
NOISE_SCALES = 2
NUM_FEATURES = FIRST_NOISE + 2 * NOISE_SCALES

_SMALL_SHARE = 1e-4  # added to shares of the frame before a logarithm
_LINE = 128  # pixels whose minima are taken side by side
_RIM = 8  # the rim is this part of the side, on each side


@njit(**INTERNAL, **FAST)
def _halve(source, side, out):  # type: ignore[no-untyped-def]
    """Write the means of 2 x 2 squares, without the last row or column if their number is odd."""
    half, quarter = side // 2, np.float32(0.25)
    for y in range(half):
        upper = source[2 * y * side : 2 * y * side + 2 * half]
        lower = source[(2 * y + 1) * side : (2 * y + 1) * side + 2 * half]
        line = out[y * half : (y + 1) * half]
        for x in range(half):
            line[x] = (upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]) * quarter


@njit(**INTERNAL, **FAST)
def _differences(upper, lower):  # type: ignore[no-untyped-def]
    """Return sums of absolute differences over the 2 x 2 squares of two lines: along the axes, and diagonal."""
    plain, diagonal = np.float32(0.0), np.float32(0.0)
    for x in range(upper.shape[0] // 2):
        a, b, c, d = upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]
        plain += abs(a + c - b - d) + abs(a + b - c - d)
        diagonal += abs(a + d - b - c)
    return plain, diagonal


@njit(**INTERNAL, **FAST)
def _measure_noise(source, side, row, place):  # type: ignore[no-untyped-def]
    """Write the logarithms of the mean differences at the rim, along the axes and diagonal."""
    half = side // 2
    rim = max(half // _RIM, 1)
    plain, diagonal, num = 0.0, 0.0, 0
    for y in range(half):
        upper = source[2 * y * side : (2 * y + 1) * side]
        lower = source[(2 * y + 1) * side : (2 * y + 2) * side]
        if rim <= y < half - rim:
            left, left_diagonal = _differences(upper[: 2 * rim], lower[: 2 * rim])
            right, right_diagonal = _differences(upper[2 * (half - rim) :], lower[2 * (half - rim) :])
            plain += left + right
            diagonal += left_diagonal + right_diagonal
            num += 2 * rim
        else:
            line, line_diagonal = _differences(upper, lower)
            plain += line
            diagonal += line_diagonal
            num += half
    # A lower limit of the noise makes rounding errors irrelevant, in float32 and after division by the mean.
    row[place], row[place + 1] = math.log(plain / num + 1e-4), math.log(diagonal / num + 1e-4)


@njit(**INLINED, **FAST)
def _measure_border(small, side):  # type: ignore[no-untyped-def]
    """Return mean and standard deviation of the outermost pixels."""
    total, squares = 0.0, 0.0
    for i in range(side):
        top, bottom = small[i], small[side * side - side + i]
        total += top + bottom
        squares += top * top + bottom * bottom
    for i in range(1, side - 1):
        left, right = small[i * side], small[i * side + side - 1]
        total += left + right
        squares += left * left + right * right
    num = 4.0 * side - 4.0
    return total / num, math.sqrt(max(squares / num - (total / num) ** 2, 0.0))


@njit(**INLINED, **FAST)
def _extremes(small, num, lines):  # type: ignore[no-untyped-def]
    """Return the smallest and the largest pixel; any numbers if a pixel is NaN. `lines` (2, n) is overwritten.

    A minimum for each place of a line is computed in vectors; a single one is not, because NaN makes its order matter.
    """
    width = lines.shape[1]
    lows, highs = lines[0], lines[1]
    lows[:], highs[:] = small[0], small[0]
    for first in range(0, num, width):
        start = min(first, num - width)
        line = small[start : start + width]
        for x in range(width):
            lows[x] = line[x] if line[x] < lows[x] else lows[x]
            highs[x] = line[x] if line[x] > highs[x] else highs[x]
    darkest, brightest = lows[0], highs[0]
    for x in range(width):
        darkest = min(darkest, lows[x])
        brightest = max(brightest, highs[x])
    return darkest, brightest


@njit(**INLINED, **FAST)
def _measure_levels(small, num, rings, lines, level, row):  # type: ignore[no-untyped-def]
    """Write the features of the distribution of pixels, and the means of the rings."""
    total = np.float32(0.0)
    for i in range(num):
        total += small[i]
    mean = np.float32(total / num)
    second, third, fourth = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for i in range(num):
        away = small[i] - mean
        square = away * away
        second += square
        third += square * away
        fourth += square * square
    variance = float(second) / num
    row[CONTRAST] = 0.5 * math.log(variance + 1e-7)
    row[SKEWNESS] = float(third) / num / (variance**1.5 + 1e-9)
    row[KURTOSIS] = math.log(1.0 + float(fourth) / num / (variance * variance + 1e-12))
    darkest, brightest = _extremes(small, num, lines)
    row[DARKEST], row[BRIGHTEST] = darkest - level, brightest - level
    for ring in range(NUM_RINGS):
        share, held = rings[ring], np.float32(0.0)
        for i in range(num):
            held += share[i] * small[i]
        row[FIRST_RING + ring] = held - level if share[num] else 0.0


@njit(**INLINED, **FAST)
def _measure_subject(small, side, across, level, spread, row):  # type: ignore[no-untyped-def]
    """Write size, position and shape of the pixels that differ from the background by more than its spread."""
    weight, wx, wy, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    zero, back, noise = np.float32(0.0), np.float32(level), np.float32(spread)
    for y in range(side):
        line, fy = small[y * side : (y + 1) * side], float(across[y])
        of_line, first, second = zero, zero, zero
        for x in range(side):
            w = max(abs(line[x] - back) - noise, zero)
            of_line += w
            first += w * across[x]
            second += w * across[x] * across[x]
        weight += of_line
        wx += first
        wy += of_line * fy
        xx += second
        yy += of_line * fy * fy
        xy += first * fy
    row[SUBJECT] = math.log(weight / (side * side) + _SMALL_SHARE)
    weight = max(weight, 1e-9)
    wx, wy = wx / weight, wy / weight
    xx, yy, xy = xx / weight - wx * wx, yy / weight - wy * wy, xy / weight - wx * wy
    half, apart = 0.5 * (xx + yy), math.sqrt(0.25 * (xx - yy) ** 2 + xy * xy)
    row[RADIUS] = 0.5 * math.log(max(xx + yy, 0.0) + _SMALL_SHARE)
    row[OFF_CENTRE] = math.sqrt(wx * wx + wy * wy)
    row[ELONGATION] = 0.5 * math.log((half + apart + _SMALL_SHARE) / (max(half - apart, 0.0) + _SMALL_SHARE))


@functools.cache
def _share_rings(side):  # type: ignore[no-untyped-def]
    """Return the weight of each pixel in the mean of each ring, (rings, pixels + 1), and whether the ring has any."""
    rings = np.zeros((NUM_RINGS, side * side + 1), np.float32)
    away = np.arange(side) - 0.5 * (side - 1)
    shares = np.sqrt(away[:, None] ** 2 + away**2) / (0.5 * side)
    of_pixels = np.minimum((shares * NUM_RINGS).astype(np.int64), NUM_RINGS - 1).ravel()
    for ring in range(NUM_RINGS):
        inside = of_pixels == ring
        if inside.any():
            rings[ring, :-1] = inside / np.float32(inside.sum())
            rings[ring, -1] = 1.0
    return rings


def measure_images(images, out):  # type: ignore[no-untyped-def]
    """Write the features of images (n, S, S) float32, S >= 8, C-contiguous, to `out`, (n, F) float32.

    What can be prepared without a loop over pixels is prepared here, because every line of a compiled loop adds to the
    time of the first use.
    """
    size = images.shape[1]
    small = size
    while small > MOST_SIDE:
        small //= 2
    across = ((np.arange(small) - 0.5 * (small - 1)) / small).astype(np.float32)
    buffers = np.empty((2, size * size // 4), np.float32)
    lines = np.empty((2, min(_LINE, small * small)), np.float32)
    flat = images.reshape(len(images), size * size)
    measure_flat_images(flat, size, small, _share_rings(small), across, lines, buffers, out)


@entry(**WITHOUT_ARRAYS, **FAST)
def measure_flat_images(images, size, small, rings, across, lines, buffers, out):  # type: ignore[no-untyped-def]
    """Write the features of images (n, S * S) float32; the other arguments are those that `measure_images` prepares."""
    for b in range(images.shape[0]):
        row, source, side, scale = out[b], images[b], size, 0
        while True:
            if scale < NOISE_SCALES:
                _measure_noise(source, side, row, FIRST_NOISE + 2 * scale)
            if side == small:
                level, spread = _measure_border(source, side)
                row[BACKGROUND], row[BACKGROUND_SPREAD] = level, spread
                _measure_levels(source, side * side, rings, lines, level, row)
                _measure_subject(source, side, across, level, spread, row)
            if side <= small and scale >= NOISE_SCALES - 1:
                break
            halved = buffers[scale % 2]
            _halve(source, side, halved)
            source, side, scale = halved, side // 2, scale + 1
