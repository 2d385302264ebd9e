"""Compiled loops that separate cells from the background on the grid, and objects from each other.

A mask is `SIDE` words of `SIDE` bits, so that a step over one row takes only a few instructions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import ALLOCATING, OPTIONS, entry
from fastcell.quality.loops.grid import BIN, BINS, SIDE, bin_of, level_at

MARGIN = 4  # outermost grid lines from which the background is estimated
RING = 8  # outermost grid lines from which the noise is estimated
MIN_NOISE = 0.5  # grey levels, for rounding and JPEG
MIN_THRESHOLD = 6.0  # grey levels; smallest deviation from the background that can be foreground
NOISE_FACTOR, CONTRAST_SHARE = 5.0, 0.15
MIN_AREA = 6  # grid points of an object

NONE, ONE, ALL = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


@njit(**ALLOCATING)
def _margin_profiles(grid, middle, rows, columns):  # type: ignore[no-untyped-def]
    """Estimate the deviation of the background from its level, by row and by column.

    Bands, drift, stripes and channel walls cause such deviations. Each line ends in two margins. The margin closer to
    the expected level is used, so that a cell in the other one has no effect. For a column, its median is a third
    candidate, because a wall in both margins does not show the level between them.
    """
    for y in range(SIDE):
        left, right = 0.0, 0.0
        for k in range(MARGIN):
            left += grid[y, k]
            right += grid[y, SIDE - 1 - k]
        left, right = left / MARGIN - middle, right / MARGIN - middle
        rows[y] = left if abs(left) < abs(right) else right
    some = np.empty(SIDE // 4, np.float32)
    for x in range(SIDE):
        top, bottom = 0.0, 0.0
        for k in range(MARGIN):
            top += grid[k, x] - rows[k]
            bottom += grid[SIDE - 1 - k, x] - rows[SIDE - 1 - k]
        top, bottom = top / MARGIN - middle, bottom / MARGIN - middle
        column = top if abs(top) < abs(bottom) else bottom
        for k in range(SIDE // 4):  # insertion sort
            value, place = grid[4 * k + 2, x] - rows[4 * k + 2] - middle, k
            while place and some[place - 1] > value:
                some[place] = some[place - 1]
                place -= 1
            some[place] = value
        median = 0.5 * (some[SIDE // 8 - 1] + some[SIDE // 8])
        columns[x] = median if abs(median) < abs(column) else column


@njit(**ALLOCATING)
def subtract_background(grid, counts, flat):  # type: ignore[no-untyped-def]
    """Write grid minus background to `flat`, and return noise and contrast [grey levels].

    3.139 is one over the first quartile of the absolute value of a standard normal variable.
    """
    counts[:] = 0
    num = 0
    for y in range(SIDE):
        for x in range(SIDE):
            if min(y, x, SIDE - 1 - y, SIDE - 1 - x) < 2:
                counts[bin_of(grid[y, x])] += 1
                num += 1
    middle = np.float32((level_at(counts, num // 2) + 0.5) * BIN)
    rows, columns = np.empty(SIDE, np.float32), np.empty(SIDE, np.float32)
    _margin_profiles(grid, middle, rows, columns)
    counts[:] = 0
    ring = np.zeros(BINS, np.int32)
    num = 0
    for y in range(SIDE):
        for x in range(SIDE):
            value = grid[y, x] - middle - rows[y] - columns[x]
            flat[y, x] = value
            place = bin_of(abs(value))
            counts[place] += 1
            if min(y, x, SIDE - 1 - y, SIDE - 1 - x) < RING:
                ring[place] += 1
                num += 1
    # Take the smaller of two estimates: walls and bands may fill the ring, and cells may fill the frame.
    noise = 1.4826 * (level_at(ring, num // 2) + 0.5) * BIN
    noise = max(min(noise, 3.139 * (level_at(counts, SIDE * SIDE // 4) + 0.5) * BIN), MIN_NOISE)
    contrast = (level_at(counts, int(0.99 * SIDE * SIDE)) + 0.5) * BIN
    return noise, contrast


@njit(**ALLOCATING)
def _mark(flat, threshold, mask):  # type: ignore[no-untyped-def]
    """Set the bits of `mask` where the mean absolute deviation from the background over 3 x 3 points is large."""
    sums = np.empty((SIDE, SIDE), np.float32)
    for y in range(SIDE):
        line = np.abs(flat[y])
        total = sums[y]
        for x in range(1, SIDE - 1):
            total[x] = line[x - 1] + line[x] + line[x + 1]
        total[0], total[SIDE - 1] = 1.5 * (line[0] + line[1]), 1.5 * (line[SIDE - 2] + line[SIDE - 1])
    least = np.float32(9 * threshold)
    for y in range(SIDE):
        above, line, below = sums[max(y - 1, 0)], sums[y], sums[min(y + 1, SIDE - 1)]
        word = NONE
        for x in range(SIDE):
            word |= np.uint64(above[x] + line[x] + below[x] > least) << np.uint64(x)
        mask[y] = word


@njit(**ALLOCATING)
def count_bits(word):  # type: ignore[no-untyped-def]
    """Return the number of set bits."""
    word = word - ((word >> ONE) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(**ALLOCATING)
def first_bit(word):  # type: ignore[no-untyped-def]
    """Return the position of the lowest set bit of a nonzero word."""
    return count_bits((word & (~word + ONE)) - ONE)


@njit(**ALLOCATING)
def last_bit(word):  # type: ignore[no-untyped-def]
    """Return the position of the highest set bit of a nonzero word."""
    for shift in (1, 2, 4, 8, 16, 32):
        word |= word >> np.uint64(shift)
    return count_bits(word) - 1


@njit(**ALLOCATING)
def _dilate(mask, out, diagonal):  # type: ignore[no-untyped-def]
    for y in range(SIDE):
        word = mask[y]
        around = (mask[y - 1] if y else NONE) | (mask[y + 1] if y < SIDE - 1 else NONE)
        wide = word | around if diagonal else word
        out[y] = wide | (wide << ONE) | (wide >> ONE) | around


@njit(**ALLOCATING)
def erode(mask, out, outside, diagonal):  # type: ignore[no-untyped-def]
    """Erode a mask; points beyond the frame count as `outside`: all bits set, or none."""
    edge_low, edge_high = outside & ONE, outside & (ONE << np.uint64(SIDE - 1))
    for y in range(SIDE):
        word = mask[y]
        around = (mask[y - 1] if y else outside) & (mask[y + 1] if y < SIDE - 1 else outside)
        wide = word & around if diagonal else word
        out[y] = wide & ((wide << ONE) | edge_low) & ((wide >> ONE) | edge_high) & around


@njit(**ALLOCATING)
def _fill_runs(seed, free):  # type: ignore[no-untyped-def]
    """Return all runs of `free` that contain a bit of `seed`."""
    up, down, mask_up, mask_down = seed, seed, free, free
    for shift in (1, 2, 4, 8, 16, 32):
        step = np.uint64(shift)
        up |= mask_up & (up << step)
        down |= mask_down & (down >> step)
        mask_up &= mask_up << step
        mask_down &= mask_down >> step
    return up | down


@njit(**ALLOCATING)
def flood(free, part, top, diagonal):  # type: ignore[no-untyped-def]
    """Grow `part` within `free`, from row `top` downwards, until it contains all connected points."""
    changed = True
    while changed:
        changed = False
        for way in range(2):
            before = NONE
            for k in range(top, SIDE):
                y = k if way == 0 else SIDE - 1 + top - k
                near = before | (before << ONE) | (before >> ONE) if diagonal else before
                seed = (part[y] | near) & free[y]
                if seed:
                    grown = _fill_runs(seed, free[y])
                    changed |= grown != part[y]
                    part[y] = grown
                before = part[y]


@njit(**ALLOCATING)
def _fill_holes(mask):  # type: ignore[no-untyped-def]
    """Set the points that are not connected to the border through points outside the mask."""
    free, reached = np.empty(SIDE, np.uint64), np.empty(SIDE, np.uint64)
    for y in range(SIDE):
        free[y] = ~mask[y]
        reached[y] = free[y] & (ALL if y in (0, SIDE - 1) else ONE | (ONE << np.uint64(SIDE - 1)))
    flood(free, reached, 0, False)
    for y in range(SIDE):
        mask[y] = ~reached[y]


@njit(**ALLOCATING)
def split_objects(mask, objects, areas):  # type: ignore[no-untyped-def]
    """Split `mask` into connected objects and return their number n.

    Objects below `MIN_AREA` are removed from `mask`. The largest object is the first. `objects` receives (n, SIDE)
    words, and `areas` the area of each object.
    """
    num = 0
    rest, kept = mask.copy(), np.zeros(SIDE, np.uint64)
    for top in range(SIDE):
        while rest[top]:
            part = objects[num]
            part[:] = NONE
            part[top] = rest[top] & (~rest[top] + ONE)
            flood(rest, part, top, True)
            area = 0
            for y in range(top, SIDE):
                rest[y] &= ~part[y]
                area += count_bits(part[y])
            if area >= MIN_AREA:
                kept |= part
                areas[num] = area
                if area > areas[0]:
                    for y in range(SIDE):
                        objects[0, y], part[y] = part[y], objects[0, y]
                    areas[num], areas[0] = areas[0], area
                num += 1
    mask[:] = kept
    return num


@njit(**ALLOCATING)
def segment(flat, noise, contrast, mask, close):  # type: ignore[no-untyped-def]
    """Mark the points that differ from the background.

    The grid is smoothed, gaps of 2 * close points are closed, and holes are filled.
    """
    _mark(flat, max(NOISE_FACTOR * noise, CONTRAST_SHARE * contrast, MIN_THRESHOLD), mask)
    spare = np.empty(SIDE, np.uint64)
    for step in range(close):
        _dilate(mask, spare, step % 2 == 0)
        mask[:] = spare
    for step in range(close):
        erode(mask, spare, ALL, step % 2 == 0)
        mask[:] = spare
    _fill_holes(mask)


@entry(**OPTIONS)
def foreground(grid, close, grow, out):  # type: ignore[no-untyped-def]
    """Segment one grid.

    Args:
        grid: (SIDE, SIDE) float32.
        close: half the width of the gaps that are closed [grid points].
        grow: width of the margin that is then added on all sides [grid points].
        out: (SIDE, SIDE) uint8, written: 1 for cell.
    """
    flat, mask, spare = np.empty((SIDE, SIDE), np.float32), np.empty(SIDE, np.uint64), np.empty(SIDE, np.uint64)
    noise, contrast = subtract_background(grid, np.empty(BINS, np.int32), flat)
    segment(flat, noise, contrast, mask, close)
    for _ in range(grow):
        _dilate(mask, spare, True)
        mask[:] = spare
    for y in range(SIDE):
        for x in range(SIDE):
            out[y, x] = (mask[y] >> np.uint64(x)) & ONE
