"""Compiled loops of `fastcell.quality.features`: pixels to a grid of `SIDE` x `SIDE`, its segmentation, its numbers.

All of them live in this one file, because numba's cache notices a change of the file that holds a cached function and
of no other. They hold no interpreter lock and start no threads.

Shape is measured on the grid, that is in shares of the frame, whatever the frame's pixels: instruments and cuts differ
in them, and the time per cell does not depend on the size. Levels of a grid are counted in bins of `BIN` grey levels,
which is all that a quantile needs. A mask is `SIDE` words of `SIDE` bits, which makes a step over a row of it a few
instructions.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SIDE = 64
BINS, BIN = 2048, 0.25
MARGIN = 4  # outermost lines of the grid that tell the background
RING = 8  # outermost lines that tell its noise
MIN_NOISE = 0.5  # grey levels: rounding and JPEG
MIN_THRESHOLD = 6.0  # grey levels off the background that count as something
NOISE_FACTOR, CONTRAST_SHARE = 5.0, 0.15
MIN_AREA = 6  # grid points of an object
SECOND_SHARE = 0.25  # of the largest object's area, that makes another one count

CLOSE = 1  # gaps of twice as many points are closed; more would join cells that lie side by side
NONE, ONE, ALL = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)

OPTIONS = {"nogil": True, "error_model": "numpy"}
INTERNAL = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
ENTRY = {**OPTIONS, "cache": True}

# Places of what `measure_pixels` and `measure_shapes` fill in; `fastcell.quality.features.FEATURES` names them.
(
    HEIGHT, WIDTH, MEAN, BACKGROUND, BACKGROUND_SPREAD, NOISE, SATURATED_LOW, SATURATED_HIGH, CONTRAST, SNR, FOCUS,
    SHARPNESS, SLOPE, FOREGROUND, BORDER, FLAT_SIDE, OBJECTS, SECOND, NECK, SOLIDITY, ELONGATION, GHOST,
) = range(22)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# From pixels to the grid.


@njit(**INTERNAL)
def _axis(size):  # type: ignore[no-untyped-def]
    """First pixel and weights of every grid line: area averages where pixels are finer, else linear interpolation."""
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


@njit(**INTERNAL)
def _resample_line(line, axis, out):  # type: ignore[no-untyped-def]
    first, count, weight = axis
    for j in range(SIDE):
        total, start = np.float32(0.0), first[j]
        for k in range(count[j]):
            total += weight[j, k] * np.float32(line[start + k])
        out[j] = total


@njit(**INTERNAL)
def _resample(source, height, width, grid):  # type: ignore[no-untyped-def]
    """Columns first, then rows; no more memory than some lines of the grid, however high the image is."""
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


@njit(**INTERNAL)
def _level_at(counts, rank):  # type: ignore[no-untyped-def]
    """Smallest level whose cells and those below it number more than `rank`."""
    total = 0
    for level in range(counts.shape[0]):
        total += counts[level]
        if total > rank:
            return level
    return counts.shape[0] - 1


@njit(**INTERNAL)
def _laplacian_variance(source, height, width):  # type: ignore[no-untyped-def]
    """Variance of the 4-neighbour Laplacian over the inner pixels; 0 where there is none."""
    if height < 3 or width < 3:
        return 0.0
    total, squares = 0.0, 0.0
    for y in range(1, height - 1):
        above = source[(y - 1) * width : y * width]
        line = source[y * width : (y + 1) * width]
        below = source[(y + 1) * width : (y + 2) * width]
        part, part_squares = np.int64(0), np.int64(0)
        for x in range(1, width - 1):
            value = (
                np.int32(above[x]) + np.int32(below[x]) + np.int32(line[x - 1]) + np.int32(line[x + 1])
                - np.int32(4) * np.int32(line[x])
            )  # fmt: skip
            part += value
            part_squares += value * value
        total += part
        squares += part_squares
    num = float(height - 2) * (width - 2)
    mean = total / num
    return max(squares / num - mean * mean, 0.0)


@njit(**INTERNAL)
def _count_border(source, height, width, counts):  # type: ignore[no-untyped-def]
    """Count the levels of the outermost frame of pixels; returns how many pixels it has."""
    num = 0
    for y in range(height):
        inner = 0 < y < height - 1
        step = max(width - 1, 1) if inner else 1
        for x in range(0, width, step):
            counts[source[y * width + x]] += 1
            num += 1
    return num


@njit(**ENTRY)
def measure_pixels(pixels, offsets, heights, widths, grids, out):  # type: ignore[no-untyped-def]
    """Put cells on the grid and fill in what is measured on their own pixels.

    Args:
        pixels: uint8, flat pool.
        offsets: (n,) int64 into it.
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
        row[HEIGHT], row[WIDTH], row[MEAN] = height, width, total / size
        row[SATURATED_LOW], row[SATURATED_HIGH] = counts[0] / size, counts[255] / size
        counts[:] = 0
        num = _count_border(source, height, width, counts)
        middle = _level_at(counts, (num - 1) // 2)
        away = np.zeros(256, np.int64)
        for level in range(256):
            away[abs(level - middle)] += counts[level]
        row[BACKGROUND], row[BACKGROUND_SPREAD] = middle, 1.4826 * _level_at(away, (num - 1) // 2)
        row[FOCUS] = math.log10(_laplacian_variance(source, height, width) + 0.1)
        _resample(source, height, width, grids[b])


# ---------------------------------------------------------------------------------------------------------------------
# What is cell and what is background.


@njit(**INTERNAL)
def _bin(value):  # type: ignore[no-untyped-def]
    return min(int(value / BIN), BINS - 1)


@njit(**INTERNAL)
def _margin_profiles(grid, middle, rows, columns):  # type: ignore[no-untyped-def]
    """Background off its level, by row and by column: bands, drift, stripes, channel walls.

    Of the two margins that a line ends in, the one closer to the expected level counts, so that a cell in the other
    does not; of a column also its median, because a wall in both margins tells nothing of what lies between.
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
        for k in range(SIDE // 4):  # sorted by insertion
            value, place = grid[4 * k + 2, x] - rows[4 * k + 2] - middle, k
            while place and some[place - 1] > value:
                some[place] = some[place - 1]
                place -= 1
            some[place] = value
        median = 0.5 * (some[SIDE // 8 - 1] + some[SIDE // 8])
        columns[x] = median if abs(median) < abs(column) else column


@njit(**INTERNAL)
def _subtract_background(grid, counts, flat):  # type: ignore[no-untyped-def]
    """Write grid minus background to `flat`; returns noise and contrast [grey levels].

    3.139 is one over the first quartile of the absolute value of a standard normal number.
    """
    counts[:] = 0
    num = 0
    for y in range(SIDE):
        for x in range(SIDE):
            if min(y, x, SIDE - 1 - y, SIDE - 1 - x) < 2:
                counts[_bin(grid[y, x])] += 1
                num += 1
    middle = np.float32((_level_at(counts, num // 2) + 0.5) * BIN)
    rows, columns = np.empty(SIDE, np.float32), np.empty(SIDE, np.float32)
    _margin_profiles(grid, middle, rows, columns)
    counts[:] = 0
    ring = np.zeros(BINS, np.int32)
    num = 0
    for y in range(SIDE):
        for x in range(SIDE):
            value = grid[y, x] - middle - rows[y] - columns[x]
            flat[y, x] = value
            place = _bin(abs(value))
            counts[place] += 1
            if min(y, x, SIDE - 1 - y, SIDE - 1 - x) < RING:
                ring[place] += 1
                num += 1
    # The quieter of two: walls and bands may fill the ring, cells the frame.
    noise = 1.4826 * (_level_at(ring, num // 2) + 0.5) * BIN
    noise = max(min(noise, 3.139 * (_level_at(counts, SIDE * SIDE // 4) + 0.5) * BIN), MIN_NOISE)
    contrast = (_level_at(counts, int(0.99 * SIDE * SIDE)) + 0.5) * BIN
    return noise, contrast


@njit(**INTERNAL)
def _mark(flat, threshold, mask):  # type: ignore[no-untyped-def]
    """Mark in SIDE words of SIDE bits where the mean distance from the background over 3 x 3 points is large."""
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


@njit(**INTERNAL)
def _count(word):  # type: ignore[no-untyped-def]
    """Number of set bits."""
    word = word - ((word >> ONE) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(**INTERNAL)
def _first(word):  # type: ignore[no-untyped-def]
    """Place of the lowest set bit of a word that is not 0."""
    return _count((word & (~word + ONE)) - ONE)


@njit(**INTERNAL)
def _last(word):  # type: ignore[no-untyped-def]
    """Place of the highest set bit of a word that is not 0."""
    for shift in (1, 2, 4, 8, 16, 32):
        word |= word >> np.uint64(shift)
    return _count(word) - 1


@njit(**INTERNAL)
def _dilate(mask, out, diagonal):  # type: ignore[no-untyped-def]
    for y in range(SIDE):
        word = mask[y]
        around = (mask[y - 1] if y else NONE) | (mask[y + 1] if y < SIDE - 1 else NONE)
        wide = word | around if diagonal else word
        out[y] = wide | (wide << ONE) | (wide >> ONE) | around


@njit(**INTERNAL)
def _erode(mask, out, outside, diagonal):  # type: ignore[no-untyped-def]
    """What lies beyond the frame counts as `outside`: all bits set, or none."""
    edge_low, edge_high = outside & ONE, outside & (ONE << np.uint64(SIDE - 1))
    for y in range(SIDE):
        word = mask[y]
        around = (mask[y - 1] if y else outside) & (mask[y + 1] if y < SIDE - 1 else outside)
        wide = word & around if diagonal else word
        out[y] = wide & ((wide << ONE) | edge_low) & ((wide >> ONE) | edge_high) & around


@njit(**INTERNAL)
def _fill_runs(seed, free):  # type: ignore[no-untyped-def]
    """All runs of `free` that hold a bit of `seed`."""
    up, down, mask_up, mask_down = seed, seed, free, free
    for shift in (1, 2, 4, 8, 16, 32):
        step = np.uint64(shift)
        up |= mask_up & (up << step)
        down |= mask_down & (down >> step)
        mask_up &= mask_up << step
        mask_down &= mask_down >> step
    return up | down


@njit(**INTERNAL)
def _flood(free, part, top, diagonal):  # type: ignore[no-untyped-def]
    """Grow `part` within `free`, from row `top` downwards, until nothing more hangs together with it."""
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


@njit(**INTERNAL)
def _fill_holes(mask):  # type: ignore[no-untyped-def]
    """Set what no path leads to from the border."""
    free, reached = np.empty(SIDE, np.uint64), np.empty(SIDE, np.uint64)
    for y in range(SIDE):
        free[y] = ~mask[y]
        reached[y] = free[y] & (ALL if y in (0, SIDE - 1) else ONE | (ONE << np.uint64(SIDE - 1)))
    _flood(free, reached, 0, False)
    for y in range(SIDE):
        mask[y] = ~reached[y]


@njit(**INTERNAL)
def _split_objects(mask, objects, areas):  # type: ignore[no-untyped-def]
    """Take `mask` apart: objects (n, SIDE) words and their areas, the largest first, specks left out; returns n.

    `mask` is left with what is in the objects.
    """
    num = 0
    rest, kept = mask.copy(), np.zeros(SIDE, np.uint64)
    for top in range(SIDE):
        while rest[top]:
            part = objects[num]
            part[:] = NONE
            part[top] = rest[top] & (~rest[top] + ONE)
            _flood(rest, part, top, True)
            area = 0
            for y in range(top, SIDE):
                rest[y] &= ~part[y]
                area += _count(part[y])
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


@njit(**INTERNAL)
def _segment(flat, noise, contrast, mask, close):  # type: ignore[no-untyped-def]
    """Mark what is off the background: smoothed, gaps of 2 * close points closed, holes filled."""
    _mark(flat, max(NOISE_FACTOR * noise, CONTRAST_SHARE * contrast, MIN_THRESHOLD), mask)
    spare = np.empty(SIDE, np.uint64)
    for step in range(close):
        _dilate(mask, spare, step % 2 == 0)
        mask[:] = spare
    for step in range(close):
        _erode(mask, spare, ALL, step % 2 == 0)
        mask[:] = spare
    _fill_holes(mask)


@njit(**ENTRY)
def foreground(grid, close, grow, out):  # type: ignore[no-untyped-def]
    """Segment one grid.

    Args:
        grid: (SIDE, SIDE) float32.
        close: gaps of twice as many points are closed.
        grow: points that are added all around, after that.
        out: (SIDE, SIDE) uint8, written: 1 where there is a cell.
    """
    flat, mask, spare = np.empty((SIDE, SIDE), np.float32), np.empty(SIDE, np.uint64), np.empty(SIDE, np.uint64)
    noise, contrast = _subtract_background(grid, np.empty(BINS, np.int32), flat)
    _segment(flat, noise, contrast, mask, close)
    for _ in range(grow):
        _dilate(mask, spare, True)
        mask[:] = spare
    for y in range(SIDE):
        for x in range(SIDE):
            out[y, x] = (mask[y] >> np.uint64(x)) & ONE


# ---------------------------------------------------------------------------------------------------------------------
# Shapes.


@njit(**INTERNAL)
def _box(part):  # type: ignore[no-untyped-def]
    """Outermost rows and columns of an object: top, bottom, left, right."""
    top, bottom, columns = SIDE, -1, NONE
    for y in range(SIDE):
        if part[y]:
            top, bottom, columns = min(top, y), y, columns | part[y]
    return top, bottom, _first(columns), _last(columns)


@njit(**INTERNAL)
def _flat_side(part, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """Of an object's four outermost lines the share that is filled, the largest: a cut makes it near 1."""
    on_left, on_right = 0, 0
    for y in range(top, bottom + 1):
        on_left += np.int64((part[y] >> np.uint64(left)) & ONE)
        on_right += np.int64((part[y] >> np.uint64(right)) & ONE)
    across = max(_count(part[top]), _count(part[bottom])) / (right - left + 1)
    return max(across, max(on_left, on_right) / (bottom - top + 1))


@njit(**INTERNAL)
def _below_chord(values, num):  # type: ignore[no-untyped-def]
    """Area under the lower convex hull of the points (i, values[i]), i < num."""
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


@njit(**INTERNAL)
def _solidity(part, area, top, bottom):  # type: ignore[no-untyped-def]
    """Area of an object as a share of its convex hull."""
    num = bottom - top + 2
    lows, highs = np.full(num, float(SIDE)), np.full(num, float(SIDE))
    for y in range(top, bottom + 1):
        first, last = float(_first(part[y])), float(_last(part[y]))
        for k in range(y - top, y - top + 2):
            lows[k], highs[k] = min(lows[k], first), min(highs[k], -last - 1)
    return area / (-_below_chord(highs, num) - _below_chord(lows, num))


@njit(**INTERNAL)
def _elongation(part, area, top, bottom):  # type: ignore[no-untyped-def]
    """Ratio of the axes of the ellipse with an object's second moments."""
    y1, x1, yy, xx, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for y in range(top, bottom + 1):
        word = part[y]
        num, sum_x = 0, 0
        while word:
            x = _first(word)
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


@njit(**INTERNAL)
def _neck(part, top, layers):  # type: ignore[no-untyped-def]
    """How narrow an object is between its two thickest parts: 0 for one part, towards 1 for two that hardly touch.

    The object is eroded until nothing is left (layers: (SIDE, SIDE) words, scratch; beyond the frame nothing is set).
    The first erosion that leaves two parts, both of which live on to three quarters of all, tells.
    """
    layers[0] = part
    num = 0
    while layers[num].any():
        _erode(layers[num], layers[num + 1], NONE, num % 2 == 1)
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
                _flood(rest, found, top, True)
                rest &= ~found
                parts += 1
        if parts > 1:
            return 1.0 - step / num
    return 0.0


@njit(**INTERNAL)
def _border_contact(part):  # type: ignore[no-untyped-def]
    """Share of one side of the frame that an object covers, the largest of the four."""
    on_left, on_right = 0, 0
    for y in range(SIDE):
        on_left += np.int64(part[y] & ONE)
        on_right += np.int64(part[y] >> np.uint64(SIDE - 1))
    return max(_count(part[0]), _count(part[SIDE - 1]), on_left, on_right) / SIDE


@njit(**INTERNAL)
def _sharpness(grid, contrast, counts):  # type: ignore[no-untyped-def]
    """Steepest slopes (the 99.5 % quantile) as a share of the contrast, per grid line."""
    counts[:] = 0
    for y in range(1, SIDE - 1):
        above, line, below = grid[y - 1], grid[y], grid[y + 1]
        for x in range(1, SIDE - 1):
            down, across = below[x] - above[x], line[x + 1] - line[x - 1]
            counts[_bin(np.float32(0.5) * np.sqrt(down * down + across * across))] += 1
    steep = (_level_at(counts, int(0.995 * (SIDE - 2) ** 2)) + 0.5) * BIN
    return steep / max(contrast, 1.0)


@njit(**ENTRY)
def measure_shapes(grids, window, flats, out):  # type: ignore[no-untyped-def]
    """Fill in what is measured on the grid.

    Args:
        grids: (n, SIDE, SIDE) float32.
        window: (SIDE,) float32, taper of the Fourier transform along each side.
        flats: (n, SIDE, SIDE) float32, written: the grid minus its background, tapered.
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
        noise, contrast = _subtract_background(grids[b], counts, flat)
        row[NOISE], row[CONTRAST], row[SNR] = noise, contrast, math.log10(contrast / noise)
        row[SHARPNESS] = _sharpness(grids[b], contrast, counts)
        _segment(flat, noise, contrast, mask, CLOSE)
        areas[0] = 0
        num = _split_objects(mask, objects, areas)
        total, counted, second = 0, 0, 0
        row[BORDER] = row[FLAT_SIDE] = row[NECK] = 0.0
        row[SOLIDITY] = row[ELONGATION] = 1.0
        for label in range(num):
            part, area = objects[label], areas[label]
            total += area
            second = max(second, area if label else 0)
            if area < SECOND_SHARE * areas[0]:
                continue
            counted += 1
            top, bottom, left, right = _box(part)
            row[BORDER] = max(row[BORDER], _border_contact(part))
            row[FLAT_SIDE] = max(row[FLAT_SIDE], _flat_side(part, top, bottom, left, right))
            if label == 0:
                row[SOLIDITY] = _solidity(part, area, top, bottom)
                row[ELONGATION] = _elongation(part, area, top, bottom)
                row[NECK] = _neck(part, top, layers)
        row[FOREGROUND], row[OBJECTS] = total / (SIDE * SIDE), counted
        row[SECOND] = second / areas[0] if num else 0.0
        for y in range(SIDE):
            for x in range(SIDE):
                flat[y, x] *= window[y] * window[x]


# ---------------------------------------------------------------------------------------------------------------------
# Spectrum.


@njit(**ENTRY)
def measure_slope(power, edges, out):  # type: ignore[no-untyped-def]
    """Fill in the slope of ln power over ln frequency, frequencies 2 to 24 per frame averaged over all directions.

    Args:
        power: (n, SIDE, SIDE // 2 + 1) float32, of the real Fourier transform.
        edges: (n, SIDE, SIDE) float32, written: all of it, times the squared frequency and a low pass.
        out: (n, F) float32, written in part.
    """
    low, high = 2, 24
    nearest = np.zeros((SIDE, SIDE // 2 + 1), np.int64)
    gain = np.zeros((SIDE, SIDE // 2 + 1), np.float32)
    for y in range(SIDE):
        fy = min(y, SIDE - y)
        for x in range(SIDE // 2 + 1):
            square = float(fy * fy + x * x)
            nearest[y, x] = int(math.sqrt(square) + 0.5)
            gain[y, x] = square * math.exp(-square / 256.0)
    logs = np.zeros(high + 1)
    mean_log, spread = 0.0, 0.0
    for k in range(low, high + 1):
        logs[k] = math.log(float(k))
        mean_log += logs[k] / (high - low + 1)
    for k in range(low, high + 1):
        spread += (logs[k] - mean_log) ** 2
    sums, counts = np.zeros(2 * SIDE), np.zeros(2 * SIDE)
    for b in range(power.shape[0]):
        sums[:] = 0
        counts[:] = 0
        for y in range(SIDE):
            for x in range(SIDE // 2 + 1):
                sums[nearest[y, x]] += power[b, y, x]
                counts[nearest[y, x]] += 1
                value = power[b, y, x] * gain[y, x]
                edges[b, y, x] = value
                edges[b, (SIDE - y) % SIDE, (SIDE - x) % SIDE] = value
        slope = 0.0
        for k in range(low, high + 1):
            slope += (logs[k] - mean_log) * math.log(sums[k] / counts[k] + 1.0) / spread
        out[b, SLOPE] = slope


@njit(**ENTRY)
def measure_ghosts(correlation, out):  # type: ignore[no-untyped-def]
    """Fill in the highest second peak of the edges' autocorrelation, 4 to 28 grid lines away, as a share of the first.

    Args:
        correlation: (n, SIDE, SIDE // 2 + 1) complex64 with real values: the Fourier transform of the edges' power.
        out: (n, F) float32, written in part.
    """
    reach = 28
    for b in range(correlation.shape[0]):
        field = correlation[b].real
        best = np.float32(0.0)
        for y in range(-reach, reach + 1):
            for x in range(reach + 1):
                square = y * y + x * x
                value = field[y % SIDE, x]
                if value <= best or square < 16 or square > reach * reach:
                    continue
                peak = True
                for v in range(y - 1, y + 2):
                    for u in range(x - 1, x + 2):
                        peak &= value >= (field[v % SIDE, u] if u >= 0 else field[-v % SIDE, -u])
                if peak:
                    best = value
        out[b, GHOST] = best / field[0, 0] if out[b, CONTRAST] >= 1 else 0.0
