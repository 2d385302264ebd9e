"""Compiled CPU loops of the operations: gather, affine, bilinear, blur, noise and normalise, one cell at a time.

All of them live in this one file, because numba's cache notices a change of the file that holds a cached function and
of no other. They hold no interpreter lock and start no threads.

Coordinates are signed 64-bit fixed point with 32 fractional bits ("Q32"): fp32 misses the 1e-5 bound on wide cells, and
integer steps give the same taps and weights in every order of evaluation and on every device.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

F32 = np.float32
Q32_ONE = 4294967296.0
Q32_MASK = np.int64(0xFFFFFFFF)
Q32_WEIGHT = F32(1.0 / 4294967296.0)

MODE_DIVIDE, MODE_SUBTRACT, MODE_STANDARDIZE = 0, 1, 2

# Pixels that are summed in float32 before the sum goes to float64.
SUM_RUN = 1024

# NaN is a value here (fill: clamp to the border), so the compiler may not assume that there is none.
FAST = {"reassoc", "contract", "arcp", "nsz"}
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": FAST}
INLINE = {**OPTIONS, "forceinline": True}
# What Python calls is stored on disk, with all that it calls inside.
ENTRY = {**OPTIONS, "cache": True}


@intrinsic
def _pointer(typingctx, address):  # type: ignore[no-untyped-def]
    """Turn an integer address into a pointer."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), codegen


@intrinsic
def _float_bits(typingctx, value):  # type: ignore[no-untyped-def]
    """Bit pattern of a float32 as int32."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), codegen


@intrinsic
def _bits_float(typingctx, bits):  # type: ignore[no-untyped-def]
    """Float32 with the bit pattern of an int32."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@njit(**INLINE)
def _to_q32(value):  # type: ignore[no-untyped-def]
    return np.int64(np.rint(value * Q32_ONE))


# ---------------------------------------------------------------------------------------------------------------------
# Axis-aligned maps: one table of two taps per axis, horizontal pass first.


@njit(**OPTIONS)
def _bilinear_taps(scale, offset, length, clamp, size, low, high, weight_low, weight_high, outside):  # type: ignore[no-untyped-def]
    """Fill the table of one axis: sample = weight_low * s[low] + weight_high * s[high] + outside * fill."""
    at = _to_q32(0.5 * scale + offset - 0.5)
    step = _to_q32(scale)
    last = np.int64(length - 1)
    for x in range(size):
        first = at >> 32
        weight = F32(at & Q32_MASK) * Q32_WEIGHT
        below, above = first < 0 or first > last, first < -1 or first >= last
        low[x] = np.uint32(min(max(first, 0), last))
        high[x] = np.uint32(min(max(first + 1, 0), last))
        if clamp:
            weight_high[x] = F32(0.0) if first < 0 or first >= last else weight
            weight_low[x] = F32(1.0) - weight_high[x]
            outside[x] = F32(0.0)
        else:
            weight_low[x] = F32(0.0) if below else F32(1.0) - weight
            weight_high[x] = F32(0.0) if above else weight
            outside[x] = (F32(1.0) - weight if below else F32(0.0)) + (weight if above else F32(0.0))
        at += step


@njit(**OPTIONS)
def _resample_row(source, start, size, low, high, weight_low, weight_high, outside, fill, identity, line):  # type: ignore[no-untyped-def]
    """Horizontal pass of one source row into `line`; returns the row's sum. A NaN `fill` has no outside."""
    total = F32(0.0)
    if identity:
        row = source[start : start + size]
        for x in range(size):
            value = F32(row[x])
            line[x] = value
            total += value
    elif math.isnan(fill):  # this form gives a constant row its constant exactly
        for x in range(size):
            value = F32(source[start + low[x]])
            value += weight_high[x] * (F32(source[start + high[x]]) - value)
            line[x] = value
            total += value
    else:
        for x in range(size):
            value = (
                weight_low[x] * F32(source[start + low[x]])
                + weight_high[x] * F32(source[start + high[x]])
                + outside[x] * fill
            )
            line[x] = value
            total += value
    return total


@njit(**INLINE)
def _gain_and_shift(mean, mode, eps):  # type: ignore[no-untyped-def]
    """Factor and then subtrahend that normalise; 1 and 0 for a mode that is applied later."""
    if mode == MODE_DIVIDE:
        return F32(1.0 / max(mean, eps)), F32(0.0)
    if mode == MODE_SUBTRACT:
        return F32(1.0), F32(mean)
    return F32(1.0), F32(0.0)


@njit(**OPTIONS)
def _copy_corner(source, width, mode, eps, image):  # type: ignore[no-untyped-def]
    """What `_sample_axis_aligned` does under the identity map: the cell's upper left square as it is."""
    size = image.shape[0]
    total = np.int64(0)
    for y in range(size):
        row, row_total = source[y * width : y * width + size], np.int32(0)
        for x in range(size):
            row_total += np.int32(row[x])
        total += row_total
    gain, shift = _gain_and_shift(total / (size * size), mode, eps)
    for y in range(size):
        row, out = source[y * width : y * width + size], image[y]
        for x in range(size):
            out[x] = F32(row[x]) * gain - shift


@njit(**OPTIONS)
def _sample_axis_aligned(source, height, width, matrix, fill, mode, eps, tap, weight, lines, sums, image):  # type: ignore[no-untyped-def]
    """Bilinear sample of an axis-aligned map, normalised on the way out if `mode` is divide or subtract.

    Scratch: tap uint32 (6, S), weight float32 (6, S), lines float32 (2 S, S), sums float32 (2 S,). Only source rows
    that some output row needs are resampled; neighbouring output rows share them.
    """
    size = image.shape[0]
    clamp = math.isnan(fill)
    level = F32(0.0) if clamp else fill
    _bilinear_taps(matrix[0, 0], matrix[0, 2], width, clamp, size, tap[0], tap[1], weight[0], weight[1], weight[2])
    _bilinear_taps(matrix[1, 1], matrix[1, 2], height, clamp, size, tap[2], tap[3], weight[3], weight[4], weight[5])
    identity = matrix[0, 0] == 1.0 and matrix[0, 2] == 0.0 and width >= size
    if identity and matrix[1, 1] == 1.0 and matrix[1, 2] == 0.0 and height >= size:
        _copy_corner(source, width, mode, eps, image)
        return

    used, held_a, held_b, slot_a, slot_b = 0, -1, -1, 0, 0
    total = 0.0
    for y in range(size):
        a, b = np.int64(tap[2, y]), np.int64(tap[3, y])
        new_a, new_b = -1, -1
        if a == held_a:
            new_a = slot_a
        elif a == held_b:
            new_a = slot_b
        if b == held_a:
            new_b = slot_a
        elif b == held_b:
            new_b = slot_b
        if new_a < 0:
            new_a = used
            used += 1
            sums[new_a] = _resample_row(
                source, a * width, size, tap[0], tap[1], weight[0], weight[1], weight[2], fill, identity, lines[new_a]
            )
        if b == a:
            new_b = new_a
        elif new_b < 0:
            new_b = used
            used += 1
            sums[new_b] = _resample_row(
                source, b * width, size, tap[0], tap[1], weight[0], weight[1], weight[2], fill, identity, lines[new_b]
            )
        held_a, held_b, slot_a, slot_b = a, b, new_a, new_b
        tap[4, y] = new_a
        tap[5, y] = new_b
        total += weight[3, y] * sums[new_a] + weight[4, y] * sums[new_b] + weight[5, y] * level * F32(size)

    gain, shift = _gain_and_shift(total / (size * size), mode, eps)
    for y in range(size):
        la, lb, out = lines[tap[4, y]], lines[tap[5, y]], image[y]
        if clamp:
            share = weight[4, y]
            for x in range(size):
                value = la[x]
                out[x] = (value + share * (lb[x] - value)) * gain - shift
        else:
            ca, cb, cc = weight[3, y] * gain, weight[4, y] * gain, weight[5, y] * level * gain - shift
            for x in range(size):
                out[x] = ca * la[x] + cb * lb[x] + cc


# ---------------------------------------------------------------------------------------------------------------------
# General affine maps.


@njit(**INLINE)
def _inside(at, step, limit, size):  # type: ignore[no-untyped-def]
    """First and past-the-last x of [0, size) with 0 <= at + x * step <= limit."""
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


@njit(**INLINE)
def _pixel(source, height, width, x, y, clamp, fill):  # type: ignore[no-untyped-def]
    """One pixel of a cell that goes on for ever, as its border or as `fill`."""
    if not clamp and (x < 0 or x >= width or y < 0 or y >= height):
        return fill
    return F32(source[np.uint64(min(max(y, 0), height - 1) * width + min(max(x, 0), width - 1))])


@njit(**INLINE)
def _sample_at_edge(source, height, width, fx, fy, clamp, fill):  # type: ignore[no-untyped-def]
    """One bilinear sample whose taps may lie outside the cell."""
    x0, y0 = fx >> 32, fy >> 32
    wx, wy = F32(fx & Q32_MASK) * Q32_WEIGHT, F32(fy & Q32_MASK) * Q32_WEIGHT
    a = _pixel(source, height, width, x0, y0, clamp, fill)
    c = _pixel(source, height, width, x0 + 1, y0, clamp, fill)
    d = _pixel(source, height, width, x0, y0 + 1, clamp, fill)
    e = _pixel(source, height, width, x0 + 1, y0 + 1, clamp, fill)
    a += wx * (c - a)
    d += wx * (e - d)
    return a + wy * (d - a)


@njit(**OPTIONS)
def _sample_affine(source, height, width, matrix, scale_x, scale_y, fill, image):  # type: ignore[no-untyped-def]
    """Bilinear sample of any affine map; `source` holds flat uint8 or float32, a pixel of it scale_x by scale_y."""
    size = image.shape[0]
    clamp = math.isnan(fill)
    level = F32(0.0) if clamp else fill
    height, width = np.int64(height), np.int64(width)
    row_x = _to_q32((0.5 * matrix[0, 0] + 0.5 * matrix[0, 1] + matrix[0, 2]) / scale_x - 0.5)
    row_y = _to_q32((0.5 * matrix[1, 0] + 0.5 * matrix[1, 1] + matrix[1, 2]) / scale_y - 0.5)
    step_x, step_y = _to_q32(matrix[0, 0] / scale_x), _to_q32(matrix[1, 0] / scale_y)
    down_x, down_y = _to_q32(matrix[0, 1] / scale_x), _to_q32(matrix[1, 1] / scale_y)
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
            out[x] = a + wy * (d - a)
            fx += step_x
            fy += step_y
        for x in range(last, size):
            out[x] = _sample_at_edge(source, height, width, row_x + x * step_x, row_y + x * step_y, clamp, level)
        row_x += down_x
        row_y += down_y


# ---------------------------------------------------------------------------------------------------------------------
# Down-scaling with a low-pass filter.


@njit(**OPTIONS)
def _triangle_taps(scale, offset, length, clamp, size, first, count, weight):  # type: ignore[no-untyped-def]
    """Fill one axis' table of triangle filters; weight (size, most taps + 1) ends with the outside's share."""
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


@njit(**OPTIONS)
def _resample_filtered(source, height, width, sx, ox, sy, oy, fill, rows, columns, flat):  # type: ignore[no-untyped-def]
    """Separable triangle filter of an axis-aligned map into `flat` (rows * columns)."""
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
            value = weight_x[x, weight_x.shape[1] - 1] * level
            for k in range(count_x[x]):
                value += weight_x[x, k] * F32(source[np.uint64(start + first_x[x] + k)])
            lines[r, x] = value
    for y in range(rows):
        out = flat[y * columns : (y + 1) * columns]
        for x in range(columns):
            out[x] = weight_y[y, weight_y.shape[1] - 1] * level
        for k in range(count_y[y]):
            share, line = weight_y[y, k], lines[first_y[y] + k]
            for x in range(columns):
                out[x] += share * line[x]


@njit(**OPTIONS)
def _sample_filtered(source, height, width, matrix, fill, image, flat):  # type: ignore[no-untyped-def]
    """Low-pass filtered sample; a map that rotates is filtered to its own scale first, then sampled bilinearly.

    `flat` is `image` (S, S) in one dimension.
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
    _sample_affine(small, small_height, small_width, matrix, scale_x, scale_y, fill, image)


# ---------------------------------------------------------------------------------------------------------------------
# Blur, noise, normalisation: in place on the output.


@njit(**INLINE)
def _mirror(i, size):  # type: ignore[no-untyped-def]
    """Index reflected about the centres of the outermost pixels (dcb|abcd|cba)."""
    if size == 1:
        return 0
    period = 2 * (size - 1)
    i %= period
    return period - i if i >= size else i


@njit(**OPTIONS)
def _blur(image, sigma, lines):  # type: ignore[no-untyped-def]
    """Separable Gaussian of radius ceil(3 sigma), mirrored at the border; scratch lines float32 (>= S, S)."""
    size = image.shape[0]
    radius = np.int64(math.ceil(3.0 * sigma))
    weight = np.empty(radius + 1, np.float32)
    total = 0.0
    for j in range(radius + 1):
        share = math.exp(-0.5 * j * j / (sigma * sigma))
        weight[j] = share
        total += share if j == 0 else 2.0 * share
    for j in range(radius + 1):
        weight[j] = F32(weight[j] / total)
    padded = np.empty(size + 2 * radius, np.float32)
    for y in range(size):
        source, line = image[y], lines[y]
        for x in range(size):
            padded[radius + x] = source[x]
        for j in range(1, radius + 1):
            padded[radius - j] = source[_mirror(-j, size)]
            padded[radius + size - 1 + j] = source[_mirror(size - 1 + j, size)]
        for x in range(size):
            line[x] = weight[0] * padded[radius + x]
        for j in range(1, radius + 1):
            share = weight[j]
            left, right = padded[radius - j :], padded[radius + j :]
            for x in range(size):
                line[x] += share * (left[x] + right[x])
    for y in range(size):
        out, line = image[y], lines[y]
        for x in range(size):
            out[x] = weight[0] * line[x]
        for j in range(1, radius + 1):
            share, up, down = weight[j], lines[_mirror(y - j, size)], lines[_mirror(y + j, size)]
            for x in range(size):
                out[x] += share * (up[x] + down[x])


@njit(**INLINE)
def _log(value):  # type: ignore[no-untyped-def]
    """Natural logarithm of a normal positive float32; polynomial of Cephes (Moshier 1992), free of branches."""
    bits = _float_bits(value)
    exponent = (bits >> np.int32(23)) - np.int32(126)
    mantissa = _bits_float((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000))
    small = mantissa < F32(0.70710678)
    exponent = exponent - np.int32(1) if small else exponent
    x = mantissa + mantissa - F32(1.0) if small else mantissa - F32(1.0)
    z = x * x
    p = F32(7.0376836292e-2)
    p = p * x + F32(-1.1514610310e-1)
    p = p * x + F32(1.1676998740e-1)
    p = p * x + F32(-1.2420140846e-1)
    p = p * x + F32(1.4249322787e-1)
    p = p * x + F32(-1.6668057665e-1)
    p = p * x + F32(2.0000714765e-1)
    p = p * x + F32(-2.4999993993e-1)
    p = p * x + F32(3.3333331174e-1)
    e = F32(exponent)
    p = p * x * z + F32(-2.12194440e-4) * e - F32(0.5) * z
    return x + p + F32(0.693359375) * e


@njit(**INLINE)
def _sincos_turns(turns):  # type: ignore[no-untyped-def]
    """Sine and cosine of 2 pi turns for turns in [0, 1), float32; polynomials of Cephes, free of branches."""
    quarter = np.int32(turns * F32(4.0) + F32(0.5))
    angle = (turns - F32(quarter) * F32(0.25)) * F32(6.283185307179586)
    z = angle * angle
    s = ((F32(-1.9515295891e-4) * z + F32(8.3321608736e-3)) * z + F32(-1.6666654611e-1)) * z * angle + angle
    c = ((F32(2.443315711809948e-5) * z + F32(-1.388731625493765e-3)) * z + F32(4.166664568298827e-2)) * z * z
    c = c - F32(0.5) * z + F32(1.0)
    odd = (quarter & np.int32(1)) != 0
    sine = c if odd else s
    cosine = s if odd else c
    sine = -sine if (quarter & np.int32(2)) != 0 else sine
    cosine = -cosine if ((quarter + np.int32(1)) & np.int32(2)) != 0 else cosine
    return sine, cosine


@njit(**INLINE)
def _philox(counter, key_low, key_high):  # type: ignore[no-untyped-def]
    """Philox4x32-10 (Salmon et al. 2011) of counter (counter, 0, 0, 0); uint64 registers that hold 32 bits."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1, x2, x3 = counter, np.uint64(0), np.uint64(0), np.uint64(0)
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * x0, np.uint64(0xCD9E8D57) * x2
        x0, x1, x2, x3 = (q >> half) ^ x1 ^ key_low, q & mask, (p >> half) ^ x3 ^ key_high, p & mask
        key_low = (key_low + np.uint64(0x9E3779B9)) & mask
        key_high = (key_high + np.uint64(0xBB67AE85)) & mask
    return x0, x1, x2, x3


@njit(**INLINE)
def _uniform(word):  # type: ignore[no-untyped-def]
    """23-bit uniform in (0, 1), exact in float32, so that every device agrees bit for bit."""
    return (F32(np.int32(word >> np.uint64(9))) + F32(0.5)) * F32(1.1920928955078125e-7)


@njit(**OPTIONS)
def _add_noise(image, std, seed, uniforms, normals):  # type: ignore[no-untyped-def]
    """Add normal noise; scratch uniforms, normals float32 (4, >= ceil(S / 4)).

    Counter y * Q + i with Q = ceil(S / 4) gives the normals of row y at columns i, i + Q, i + 2 Q, i + 3 Q (Box and
    Muller 1958: words 0, 1 the first two, words 2, 3 the others).
    """
    size = image.shape[0]
    quarter = (size + 3) // 4
    key_low, key_high = seed & np.uint64(0xFFFFFFFF), seed >> np.uint64(32)
    for y in range(size):
        u0, u1, u2, u3 = uniforms[0], uniforms[1], uniforms[2], uniforms[3]
        for i in range(quarter):
            r0, r1, r2, r3 = _philox(np.uint64(y * quarter + i), key_low, key_high)
            u0[i] = _uniform(r0)
            u1[i] = _uniform(r1)
            u2[i] = _uniform(r2)
            u3[i] = _uniform(r3)
        for pair in range(2):
            first, second = uniforms[2 * pair], uniforms[2 * pair + 1]
            cosines, sines = normals[2 * pair], normals[2 * pair + 1]
            for i in range(quarter):
                radius = std * np.sqrt(F32(-2.0) * _log(first[i]))
                sine, cosine = _sincos_turns(second[i])
                cosines[i] = radius * cosine
                sines[i] = radius * sine
        for k in range(4):
            begin = k * quarter
            line, out = normals[k], image[y, begin : min(begin + quarter, size)]
            for i in range(out.shape[0]):
                out[i] += line[i]


@njit(**OPTIONS)
def _normalize(source, mode, eps, out):  # type: ignore[no-untyped-def]
    """Normalise one image of flat pixels (uint8 or float32) into flat float32; `out` may be `source`.

    Sums differences from the first pixel, so that a constant image gives its constant exactly, in float32 per run of
    pixels and in float64 over the runs.
    """
    pixels = source.shape[0]
    pivot = F32(source[0])
    total = 0.0
    for begin in range(0, pixels, SUM_RUN):
        run, run_total = source[begin : min(begin + SUM_RUN, pixels)], F32(0.0)
        for i in range(run.shape[0]):
            run_total += F32(run[i]) - pivot
        total += run_total
    mean = F32(pivot + total / pixels)
    gain, shift = F32(1.0), mean
    if mode == MODE_DIVIDE:
        gain, shift = F32(1.0 / max(mean, eps)), F32(0.0)
    elif mode == MODE_STANDARDIZE:
        total = 0.0
        for begin in range(0, pixels, SUM_RUN):
            run, run_total = source[begin : min(begin + SUM_RUN, pixels)], F32(0.0)
            for i in range(run.shape[0]):
                difference = F32(run[i]) - mean
                run_total += difference * difference
            total += run_total
        gain = F32(1.0 / max(math.sqrt(total / pixels), eps))
    for i in range(pixels):
        out[i] = (F32(source[i]) - shift) * gain


@njit(**ENTRY)
def normalize_images(source, mode, eps, out):  # type: ignore[no-untyped-def]
    """Normalise every row of source (B, N) uint8 or float32 into out (B, N) float32, which may be `source`; N >= 1."""
    for b in range(source.shape[0]):
        _normalize(source[b], mode, eps, out[b])


@njit(**ENTRY)
def transform_range(  # type: ignore[no-untyped-def]
    addresses,
    heights,
    widths,
    matrices,
    fill,
    blur_sigma,
    noise_std,
    noise_seed,
    out,
    flat_out,
    mode,
    antialias,
    eps,
    begin,
    end,
):
    """Transform cells begin..end of a batch; arguments as in `transform_cells`, all trusted.

    out is float32 (B, S, S), flat_out the same memory as (B, S * S). antialias is True or None: numba leaves out what
    None rules out, so that the filters are compiled by those who use them.
    """
    size = out.shape[1]
    tap, weight = np.empty((6, size), np.uint32), np.empty((6, size), np.float32)
    lines, sums = np.empty((2 * size, size), np.float32), np.empty(2 * size, np.float32)
    uniforms, normals = np.empty((4, (size + 3) // 4), np.float32), np.empty((4, (size + 3) // 4), np.float32)
    for b in range(begin, end):
        height, width = np.int64(heights[b]), np.int64(widths[b])
        source = carray(_pointer(addresses[b]), (height * width,), np.uint8)
        matrix, image, flat = matrices[b], out[b], flat_out[b]
        plain = not (blur_sigma[b] > 0 or noise_std[b] > 0)
        filtered = False
        if antialias is not None:  # noqa: SIM102  numba prunes this form only
            if math.hypot(matrix[0, 0], matrix[0, 1]) > 1.0 or math.hypot(matrix[1, 0], matrix[1, 1]) > 1.0:
                filtered = True
                _sample_filtered(source, height, width, matrix, fill[b], image, flat)
        if not filtered and matrix[0, 1] == 0.0 and matrix[1, 0] == 0.0:
            fused = mode if plain and mode != MODE_STANDARDIZE else -1
            _sample_axis_aligned(source, height, width, matrix, fill[b], fused, eps, tap, weight, lines, sums, image)
            if fused >= 0:
                continue
        elif not filtered:
            _sample_affine(source, height, width, matrix, 1.0, 1.0, fill[b], image)
        if blur_sigma[b] > 0:
            _blur(image, np.float64(blur_sigma[b]), lines)
        if noise_std[b] > 0:
            _add_noise(image, F32(noise_std[b]), noise_seed[b], uniforms, normals)
        _normalize(flat, mode, eps, flat)
