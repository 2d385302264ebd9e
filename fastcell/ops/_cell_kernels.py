"""Compiled CPU loops of the operations: gather, affine, bilinear, blur, noise and normalise, one cell at a time.

All of them live in this one file, because numba's cache notices a change of the file that holds a cached function and
of no other. They hold no interpreter lock and start no threads.

Coordinates are signed 64-bit fixed point with 32 fractional bits ("Q32"): fp32 misses the 1e-5 bound on wide cells, and
integer steps give the same taps and weights in every order of evaluation and on every device. Inside a row of a rotated
map they are cut to 32 bits with 20 of them fractional ("Q20"), which fits twice as many into a vector register.

Compilers do not vectorise a loop that loads from computed places, so such a loop does nothing else: it gathers words of
two or four neighbouring pixels, one load each, and the loops before and after it vectorise.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

F32 = np.float32
Q32_ONE = 4294967296.0
Q32_MASK = np.int64(0xFFFFFFFF)
Q32_WEIGHT = F32(1.0 / 4294967296.0)
Q20_SHIFT = 12
Q20_HALF = 1 << (Q20_SHIFT - 1)
Q20_ONE = np.int32(1 << 20)
Q20_MASK = np.int32((1 << 20) - 1)
Q20_WEIGHT = F32(1.0 / (1 << 20))
# Q20 leaves 11 bits and a sign to the left of the point; two pixels are for the ring and for rounding.
Q20_LIMIT = 2046.0

MODE_DIVIDE, MODE_SUBTRACT, MODE_STANDARDIZE = 0, 1, 2

# Pixels that are summed in float32 before the sum goes to float64.
SUM_RUN = 1024

# Largest cell whose pixels are laid out anew for a rotation, per output pixel: beyond it that is most of the work.
PAIRS_PER_OUTPUT = 8

# Bytes; of the next cell no more than this is fetched ahead, so that the second-level cache holds it.
CACHE_LINE, MOST_AHEAD = 64, 1 << 16

# Philox counters that are taken at once: their words stay in the cache.
NOISE_RUN = 512

# NaN is a value here (fill: clamp to the border), so the compiler may not assume that there is none.
FAST = {"reassoc", "contract", "arcp", "nsz"}
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": FAST}
ALLOCATING = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# What makes no arrays need not count who holds them: counts per row took 30 % of the time of a resize.
INTERNAL = {**ALLOCATING, "_nrt": False}
INLINE = {**INTERNAL, "forceinline": True}
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


@intrinsic
def _bits(typingctx, value):  # type: ignore[no-untyped-def]
    """Width of an integer's type, known to the compiler."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return context.get_constant(types.int64, value.bitwidth)

    return types.int64(value), codegen


@intrinsic
def _grey_unit(typingctx, source):  # type: ignore[no-untyped-def]
    """Grey levels per unit of a pixel of `source`, known to the compiler: 65535 of uint16 is 255 of uint8."""
    unit = 1.0 / 257.0 if source.dtype == types.uint16 else 1.0

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return context.get_constant(types.float32, unit)

    return types.float32(source), codegen


@intrinsic
def _pack(typingctx, low, high):  # type: ignore[no-untyped-def]
    """Two unsigned integers in one of twice the width."""
    word = types.Integer.from_bitwidth(2 * low.bitwidth, signed=False)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        low_bits, high_bits = (builder.zext(arg, context.get_value_type(word)) for arg in args)
        return builder.or_(low_bits, builder.shl(high_bits, context.get_constant(word, low.bitwidth)))

    return word(low, low), codegen


@intrinsic
def _pair_at(typingctx, array, at):  # type: ignore[no-untyped-def]
    """Elements `at` and `at` + 1 of an unsigned array as `_pack` makes them of two, in one load (little-endian)."""
    bits = array.dtype.bitwidth
    word = types.Integer.from_bitwidth(2 * bits, signed=False)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), context.get_value_type(word).as_pointer())
        return builder.load(place, align=bits // 8)

    return word(array, types.int64), codegen


@intrinsic
def _prefetch(typingctx, address):  # type: ignore[no-untyped-def]
    """Ask for the cache line of an integer address, to be read soon; any address will do."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        place, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place, flag, flag, flag])
        ask = builder.module.declare_intrinsic("llvm.prefetch", (place,), kind)
        read, into_second_level, data = (ir.Constant(flag, number) for number in (0, 2, 1))
        builder.call(ask, [builder.inttoptr(args[0], place), read, into_second_level, data])
        return context.get_dummy_value()

    return types.void(address), codegen


@njit(**INLINE)
def _prefetch_part(ahead, part):  # type: ignore[no-untyped-def]
    """Ask for one of the parts of the next cell; `ahead` is its first and past-the-last address and a part's bytes."""
    first, last, step = ahead
    begin = first + part * step
    for address in range(begin, min(begin + step, last), CACHE_LINE):
        _prefetch(address)


@njit(**INLINE)
def _in_parts(address, num_bytes, parts):  # type: ignore[no-untyped-def]
    """The first of `num_bytes` from an address on, in so many parts of whole cache lines, for `_prefetch_part`."""
    num_bytes = min(num_bytes, MOST_AHEAD)
    lines = (num_bytes + CACHE_LINE * parts - 1) // (CACHE_LINE * parts)
    return address, address + num_bytes, lines * CACHE_LINE


@njit(**INLINE)
def _field(word, index, count):  # type: ignore[no-untyped-def]
    """Pixel `index` of the `count` in a word, as float32."""
    width = _bits(word) // count
    return F32(np.int32((word >> type(word)(index * width)) & type(word)((1 << width) - 1)))


@njit(**INLINE)
def _to_q32(value):  # type: ignore[no-untyped-def]
    return np.int64(np.rint(value * Q32_ONE))


# ---------------------------------------------------------------------------------------------------------------------
# Axis-aligned maps: one table of two taps per axis, horizontal pass first.


@njit(**INTERNAL)
def _bilinear_taps(scale, offset, length, clamp, size, low, weight_low, weight_high, outside):  # type: ignore[no-untyped-def]
    """Fill the table of one axis: sample = weight_low * s[low] + weight_high * s[low + 1] + outside * fill.

    low + 1 is an index of the axis, too, unless the axis has one pixel; then weight_high is 0.
    """
    at = _to_q32(0.5 * scale + offset - 0.5)
    step = _to_q32(scale)
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
            near = F32(1.0) - weight if 0 <= first <= last else F32(0.0)
            far = weight if -1 <= first < last else F32(0.0)
            weight_low[x] = near if first == place else far if first < place else F32(0.0)
            weight_high[x] = far if first == place else near if first > place else F32(0.0)
            outside[x] = (F32(1.0) - weight - near) + (weight - far)
        at += step


@njit(**INTERNAL)
def _resample_row(source, start, width, low, weight_low, weight_high, outside, fill, identity, pairs, line):  # type: ignore[no-untyped-def]
    """Horizontal pass of one source row into `line`; returns the row's sum. A NaN `fill` has no outside."""
    total, unit, size = F32(0.0), _grey_unit(source), line.shape[0]
    if identity:
        row = source[start : start + size]
        for x in range(size):
            value = F32(row[x]) * unit
            line[x] = value
            total += value
        return total
    if width > 1:
        for x in range(size):
            pairs[x] = _pair_at(source, start + np.int64(low[x]))
    else:
        pairs[:] = source[start]
    if math.isnan(fill):  # this form gives a constant row its constant exactly
        for x in range(size):
            value = _field(pairs[x], 0, 2)
            value = (value + weight_high[x] * (_field(pairs[x], 1, 2) - value)) * unit
            line[x] = value
            total += value
    else:
        for x in range(size):
            value = weight_low[x] * _field(pairs[x], 0, 2) + weight_high[x] * _field(pairs[x], 1, 2)
            value = value * unit + outside[x] * fill
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


@njit(**INTERNAL)
def _copy_corner(source, width, mode, eps, ahead, image):  # type: ignore[no-untyped-def]
    """What `_sample_axis_aligned` does under the identity map: the cell's upper left square as it is."""
    size = image.shape[0]
    total = np.int64(0)
    for y in range(size):
        row, row_total = source[y * width : y * width + size], np.int32(0)
        for x in range(size):
            row_total += np.int32(row[x])
        total += row_total
    unit = _grey_unit(source)
    gain, shift = _gain_and_shift(total * unit / (size * size), mode, eps)
    for y in range(size):
        _prefetch_part(ahead, y)
        row, out = source[y * width : y * width + size], image[y]
        for x in range(size):
            out[x] = F32(row[x]) * (gain * unit) - shift


@njit(**INTERNAL)
def _sample_axis_aligned(source, height, width, matrix, fill, mode, eps, tap, weight, pairs, lines, sums, ahead, image):  # type: ignore[no-untyped-def]
    """Bilinear sample of an axis-aligned map, normalised on the way out if `mode` is divide or subtract.

    Scratch: tap uint32 (4, S), weight float32 (6, S), pairs of pixels (S,), lines float32 (2 S, S), sums float32
    (2 S,). Only source rows that some output row needs are resampled; neighbouring output rows share them.
    """
    size = image.shape[0]
    clamp = math.isnan(fill)
    level = F32(0.0) if clamp else fill
    _bilinear_taps(matrix[0, 0], matrix[0, 2], width, clamp, size, tap[0], weight[0], weight[1], weight[2])
    _bilinear_taps(matrix[1, 1], matrix[1, 2], height, clamp, size, tap[1], weight[3], weight[4], weight[5])
    identity = matrix[0, 0] == 1.0 and matrix[0, 2] == 0.0 and width >= size
    if identity and matrix[1, 1] == 1.0 and matrix[1, 2] == 0.0 and height >= size:
        _copy_corner(source, width, mode, eps, ahead, image)
        return

    used, held_a, held_b, slot_a, slot_b = 0, -1, -1, 0, 0
    total = 0.0
    for y in range(size):
        _prefetch_part(ahead, y)
        a = np.int64(tap[1, y])
        b = min(a + 1, height - 1)
        new_a = slot_a if a == held_a else slot_b if a == held_b else -1
        new_b = slot_a if b == held_a else slot_b if b == held_b else -1
        for row in (a, b):
            if (row == a and new_a >= 0) or (row == b and new_b >= 0):
                continue
            sums[used] = _resample_row(
                source, row * width, width, tap[0], weight[0], weight[1], weight[2], fill, identity, pairs, lines[used]
            )
            new_a = used if row == a else new_a
            new_b = used if row == b else new_b
            used += 1
        held_a, held_b, slot_a, slot_b = a, b, new_a, new_b
        tap[2, y] = new_a
        tap[3, y] = new_b
        total += weight[3, y] * sums[new_a] + weight[4, y] * sums[new_b] + weight[5, y] * level * F32(size)

    gain, shift = _gain_and_shift(total / (size * size), mode, eps)
    for y in range(size):
        la, lb, out = lines[tap[2, y]], lines[tap[3, y]], image[y]
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
# General affine maps: four taps per output pixel.


@njit(**INTERNAL)
def _stack_rows(source, height, width, pairs):  # type: ignore[no-untyped-def]
    """Lay each pixel beside the one below it, in a ring of zeros, so that one load finds all four taps of a sample.

    Element (y + 1) * (width + 1) + x + 1 of `pairs` packs pixels (x, y) and (x, y + 1). A row's right neighbour of the
    ring is the next row's left one.
    """
    stride = width + 1
    pairs[: stride + 1] = 0
    for x in range(width):
        pairs[x + 1] = np.uint64(source[x]) << np.uint64(_bits(source[x]))
    for y in range(height - 1):
        line = pairs[(y + 1) * stride + 1 : (y + 2) * stride + 1]
        above, below = source[y * width : (y + 1) * width], source[(y + 1) * width : (y + 2) * width]
        for x in range(width):
            line[x] = _pack(above[x], below[x])
        line[width] = 0
    line = pairs[height * stride + 1 : (height + 1) * stride + 1]
    for x in range(width):
        line[x] = source[(height - 1) * width + x]
    line[width] = 0
    pairs[(height + 1) * stride : (height + 2) * stride + 1] = 0


@njit(**INLINE)
def _fits_q20(matrix, size, height, width):  # type: ignore[no-untyped-def]
    """Whether the coordinates of all output pixels and of all of the cell are Q20 numbers."""
    for axis in range(2):
        across, down, offset = matrix[axis, 0] * size, matrix[axis, 1] * size, matrix[axis, 2]
        lowest, highest = min(across, 0.0) + min(down, 0.0) + offset, max(across, 0.0) + max(down, 0.0) + offset
        if lowest < -Q20_LIMIT or highest > Q20_LIMIT:
            return False
    return max(height, width) < Q20_LIMIT


@njit(**INLINE)
def _q20(q32):  # type: ignore[no-untyped-def]
    return np.int32((q32 + Q20_HALF) >> Q20_SHIFT)


@njit(**INLINE)
def _place_taps(start, offset, low, high, stride, at, weight):  # type: ignore[no-untyped-def]
    """Place of the upper left tap and weights of the others; start, low and high are (x, y), offset and weight rows."""
    (start_x, start_y), (low_x, low_y), (high_x, high_y) = start, low, high
    offset_x, offset_y, weight_x, weight_y = offset[0], offset[1], weight[0], weight[1]
    for x in range(at.shape[0]):
        at_x = min(max(np.int32(start_x + offset_x[x]), low_x), high_x)
        at_y = min(max(np.int32(start_y + offset_y[x]), low_y), high_y)
        at[x] = np.int32(at_y >> 20) * stride + np.int32(at_x >> 20)
        weight_x[x] = F32(np.int32(at_x & Q20_MASK)) * Q20_WEIGHT
        weight_y[x] = F32(np.int32(at_y & Q20_MASK)) * Q20_WEIGHT


@njit(**INLINE)
def _mix_taps(quads, weight, unit, out):  # type: ignore[no-untyped-def]
    """Write one row of bilinear samples; returns its sum."""
    weight_x, weight_y = weight[0], weight[1]
    total = F32(0.0)
    for x in range(out.shape[0]):
        quad = quads[x]
        upper, lower = _field(quad, 0, 4), _field(quad, 1, 4)
        upper += weight_x[x] * (_field(quad, 2, 4) - upper)
        lower += weight_x[x] * (_field(quad, 3, 4) - lower)
        value = (upper + weight_y[x] * (lower - upper)) * unit
        out[x] = value
        total += value
    return total


@njit(**INLINE)
def _add_outside(start, offset, height, width, fill, out):  # type: ignore[no-untyped-def]
    """Add to a row of samples of a cell among zeros what a plane of `fill` makes of the zeros; returns the sum."""
    (start_x, start_y), offset_x, offset_y = start, offset[0], offset[1]
    end_x, end_y = np.int32((width + 1) << 20), np.int32((height + 1) << 20)
    total = F32(0.0)
    for x in range(out.shape[0]):
        at_x, at_y = np.int32(start_x + offset_x[x]), np.int32(start_y + offset_y[x])
        inside_x = max(min(min(at_x, np.int32(end_x - at_x)), Q20_ONE), np.int32(0))
        inside_y = max(min(min(at_y, np.int32(end_y - at_y)), Q20_ONE), np.int32(0))
        share = F32(1.0) - (F32(inside_x) * Q20_WEIGHT) * (F32(inside_y) * Q20_WEIGHT)
        out[x] += share * fill
        total += share * fill
    return total


@njit(**INTERNAL)
def _sample_affine(source, height, width, matrix, fill, pairs, quads, offset, weight, at, ahead, image):  # type: ignore[no-untyped-def]
    """Bilinear sample of a map that `_fits_q20`; returns the image's sum.

    Scratch: pairs of pixels (>= (height + 2) * (width + 1) + 2,), quads of pixels (S,), offset int32 (2, S), weight
    float32 (2, S), at int32 (S,). Coordinates count from the ring, one pixel before the cell, and stop at its border:
    with clamping at the outermost pixel centres, with `fill` one pixel further, where the zeros are.
    """
    size = image.shape[0]
    clamp = math.isnan(fill)
    _stack_rows(source, height, width, pairs)
    row_x = _to_q32(0.5 * matrix[0, 0] + 0.5 * matrix[0, 1] + matrix[0, 2] + 0.5)
    row_y = _to_q32(0.5 * matrix[1, 0] + 0.5 * matrix[1, 1] + matrix[1, 2] + 0.5)
    step_x, step_y = _to_q32(matrix[0, 0]), _to_q32(matrix[1, 0])
    down_x, down_y = _to_q32(matrix[0, 1]), _to_q32(matrix[1, 1])
    for x in range(size):
        offset[0, x] = _q20(x * step_x)
        offset[1, x] = _q20(x * step_y)
    ring = 0 if clamp else 1
    low = (np.int32((1 - ring) << 20), np.int32((1 - ring) << 20))
    high = (np.int32((width + ring) << 20), np.int32((height + ring) << 20))
    end_x, end_y, unit = offset[0, size - 1], offset[1, size - 1], _grey_unit(source)
    total = 0.0
    for y in range(size):
        _prefetch_part(ahead, y)
        start_x, start_y, out = _q20(row_x), _q20(row_y), image[y]
        _place_taps((start_x, start_y), offset, low, high, np.int32(width + 1), at, weight)
        for x in range(size):
            quads[x] = _pair_at(pairs, np.int64(at[x]))
        total += _mix_taps(quads, weight, unit, out)
        if not clamp:
            last_x, last_y = np.int32(start_x + end_x), np.int32(start_y + end_y)
            if (
                min(start_x, last_x, start_y, last_y) < Q20_ONE
                or max(start_x, last_x) > width << 20
                or max(start_y, last_y) > height << 20
            ):
                total += _add_outside((start_x, start_y), offset, height, width, fill, out)
        row_x += down_x
        row_y += down_y
    return total


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
    """Grey level of one pixel of a cell that goes on for ever, as its border or as `fill`."""
    if not clamp and (x < 0 or x >= width or y < 0 or y >= height):
        return fill
    place = np.uint64(min(max(y, 0), height - 1) * width + min(max(x, 0), width - 1))
    return F32(source[place]) * _grey_unit(source)


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


@njit(**INTERNAL)
def _sample_large(source, height, width, matrix, scale_x, scale_y, fill, image):  # type: ignore[no-untyped-def]
    """Bilinear sample of any affine map, pixel by pixel: for cells that would not be worth rearranging, or too large.

    `source` holds flat pixels or float32 grey levels; a pixel of it is scale_x by scale_y.
    """
    size = image.shape[0]
    clamp = math.isnan(fill)
    level, unit = F32(0.0) if clamp else fill, _grey_unit(source)
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
            out[x] = (a + wy * (d - a)) * unit
            fx += step_x
            fy += step_y
        for x in range(last, size):
            out[x] = _sample_at_edge(source, height, width, row_x + x * step_x, row_y + x * step_y, clamp, level)
        row_x += down_x
        row_y += down_y


# ---------------------------------------------------------------------------------------------------------------------
# Down-scaling with a low-pass filter.


@njit(**INTERNAL)
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


@njit(**ALLOCATING)
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
            value = F32(0.0)
            for k in range(count_x[x]):
                value += weight_x[x, k] * F32(source[np.uint64(start + first_x[x] + k)])
            lines[r, x] = value * _grey_unit(source) + weight_x[x, weight_x.shape[1] - 1] * level
    for y in range(rows):
        out = flat[y * columns : (y + 1) * columns]
        for x in range(columns):
            out[x] = weight_y[y, weight_y.shape[1] - 1] * level
        for k in range(count_y[y]):
            share, line = weight_y[y, k], lines[first_y[y] + k]
            for x in range(columns):
                out[x] += share * line[x]


@njit(**ALLOCATING)
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
    _sample_large(small, small_height, small_width, matrix, scale_x, scale_y, fill, image)


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


@njit(**ALLOCATING)
def _gaussian_taps(sigma):  # type: ignore[no-untyped-def]
    """Centre and one side of a Gaussian of radius ceil(3 sigma), with zeros up to an odd number >= 3 of the side."""
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


@njit(**INLINE)
def _first_taps(weight, middle, left, right, line):  # type: ignore[no-untyped-def]
    """Seven taps at once: what a pass over a line costs beside its sums, a tap of weight zero does not."""
    (left1, left2, left3), (right1, right2, right3) = left, right
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    for x in range(line.shape[0]):
        near = w0 * middle[x] + w1 * (left1[x] + right1[x])
        line[x] = near + w2 * (left2[x] + right2[x]) + w3 * (left3[x] + right3[x])


@njit(**INLINE)
def _more_taps(weight, j, left, right, line):  # type: ignore[no-untyped-def]
    """Taps j and j + 1 of both sides."""
    (left0, left1), (right0, right1) = left, right
    w0, w1 = weight[j], weight[j + 1]
    for x in range(line.shape[0]):
        line[x] += w0 * (left0[x] + right0[x]) + w1 * (left1[x] + right1[x])


@njit(**ALLOCATING)
def _blur(image, sigma, lines):  # type: ignore[no-untyped-def]
    """Separable Gaussian of radius ceil(3 sigma), mirrored at the border; scratch lines float32 (>= S, S)."""
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
def _philox(x0, x1, x2, x3, key_low, key_high):  # type: ignore[no-untyped-def]
    """Philox4x32-10 (Salmon et al. 2011) of counter (x0, x1, x2, x3); uint64 registers that hold 32 bits."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
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


@njit(**INTERNAL)
def _add_noise(image, std, seed, uniforms, normals):  # type: ignore[no-untyped-def]
    """Add normal noise; scratch uniforms, normals float32 (4, a multiple of ceil(S / 4)).

    Counter y * Q + i with Q = ceil(S / 4) gives the normals of row y at columns i, i + Q, i + 2 Q, i + 3 Q (Box and
    Muller 1958: words 0, 1 the first two, words 2, 3 the others). As many rows go at once as the scratch holds.
    """
    size = image.shape[0]
    quarter = (size + 3) // 4
    rows = uniforms.shape[1] // quarter
    key_low, key_high, zero = seed & np.uint64(0xFFFFFFFF), seed >> np.uint64(32), np.uint64(0)
    u0, u1, u2, u3 = uniforms[0], uniforms[1], uniforms[2], uniforms[3]
    for begin in range(0, size, rows):
        end = min(begin + rows, size)
        count = (end - begin) * quarter
        for i in range(count):
            counter = np.uint64(begin * quarter + i) & np.uint64(0xFFFFFFFF)
            r0, r1, r2, r3 = _philox(counter, zero, zero, zero, key_low, key_high)
            u0[i] = _uniform(r0)
            u1[i] = _uniform(r1)
            u2[i] = _uniform(r2)
            u3[i] = _uniform(r3)
        for pair in range(2):
            first, second = uniforms[2 * pair], uniforms[2 * pair + 1]
            cosines, sines = normals[2 * pair], normals[2 * pair + 1]
            for i in range(count):
                radius = std * np.sqrt(F32(-2.0) * _log(first[i]))
                sine, cosine = _sincos_turns(second[i])
                cosines[i] = radius * cosine
                sines[i] = radius * sine
        for y in range(begin, end):
            for k in range(4):
                line, out = normals[k, (y - begin) * quarter :], image[y, k * quarter : min((k + 1) * quarter, size)]
                for i in range(out.shape[0]):
                    out[i] += line[i]


@njit(**INTERNAL)
def _shift_and_gain(source, mode, eps):  # type: ignore[no-untyped-def]
    """Subtrahend and then factor that normalise an image of flat pixels (uint8 or float32).

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
    if mode == MODE_DIVIDE:
        return F32(0.0), F32(1.0 / max(mean, eps))
    if mode == MODE_SUBTRACT:
        return mean, F32(1.0)
    total = 0.0
    for begin in range(0, pixels, SUM_RUN):
        run, run_total = source[begin : min(begin + SUM_RUN, pixels)], F32(0.0)
        for i in range(run.shape[0]):
            difference = F32(run[i]) - mean
            run_total += difference * difference
        total += run_total
    return mean, F32(1.0 / max(math.sqrt(total / pixels), eps))


@njit(**ENTRY)
def draw_words(positions, epoch, seed, words):  # type: ignore[no-untyped-def]
    """Random words of `fastcell.ops.augmentation.draw`: words uint64 (3, 4, B), 32 bits each, of B uint64 positions."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for b in range(positions.shape[0]):
        low, high = positions[b] & mask, positions[b] >> half
        for n in range(3):
            drawn = _philox(low, high, epoch, np.uint64(n), seed & mask, seed >> half)
            for k in range(4):
                words[n, k, b] = drawn[k]


@njit(**ENTRY)
def normalize_images(source, mode, eps, out):  # type: ignore[no-untyped-def]
    """Normalise every row of source (B, N) uint8 or float32 into out (B, N) float32, which may be `source`; N >= 1."""
    for b in range(source.shape[0]):
        pixels, normalized = source[b], out[b]
        shift, gain = _shift_and_gain(pixels, mode, eps)
        for i in range(pixels.shape[0]):
            normalized[i] = (F32(pixels[i]) - shift) * gain


@njit(**INTERNAL)
def _normalize(flat, shift, gain):  # type: ignore[no-untyped-def]
    """In place, by one name alone: of two that may overlap the compiler would fear the worst."""
    for i in range(flat.shape[0]):
        flat[i] = (flat[i] - shift) * gain


@njit(**ENTRY)
def find_bad_cell(  # type: ignore[no-untyped-def]
    addresses, heights, widths, matrices, fill, blur_sigma, noise_std, size, alignment, most_coordinate, most_blur
):
    """Row of the first cell that breaks a rule, and which (`transform._CELL_RULES`); -1 and 0 where all are good."""
    for b in range(addresses.shape[0]):
        if addresses[b] == 0 or addresses[b] % alignment != 0:
            return b, 0
        if heights[b] < 1:
            return b, 1
        if widths[b] < 1:
            return b, 2
        for axis in range(2):
            row = matrices[b, axis]
            if not (abs(row[0]) + abs(row[1])) * size + abs(row[2]) < most_coordinate:
                return b, 3
        if math.isinf(fill[b]):
            return b, 4
        if not 0 <= blur_sigma[b] <= most_blur:
            return b, 5
        if not 0 <= noise_std[b] < math.inf:
            return b, 6
    return -1, 0


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
    types_of,
    mode,
    antialias,
    eps,
    begin,
    end,
):
    """Transform cells begin..end of a batch; arguments as in `transform_cells`, all trusted.

    out is float32 (B, S, S), flat_out the same memory as (B, S * S); types_of has three arrays, of the pixels' type and
    of the unsigned integers of twice and four times its width. antialias is True or None: numba leaves out what None
    rules out, so that the filters are compiled by those who use them.
    """
    size = out.shape[1]
    pixel, pair, quad = types_of
    tap, weight = np.empty((4, size), np.uint32), np.empty((6, size), np.float32)
    lines, sums = np.empty((2 * size, size), np.float32), np.empty(2 * size, np.float32)
    pairs, quads = np.empty(max(PAIRS_PER_OUTPUT * size, 1) * size, pair.dtype), np.empty(size, quad.dtype)
    offset, at = np.empty((2, size), np.int32), np.empty(size, np.int32)
    quarter = (size + 3) // 4
    uniforms = np.empty((4, max(NOISE_RUN // quarter, 1) * quarter), np.float32)
    normals = np.empty_like(uniforms)
    for b in range(begin, end):
        height, width = np.int64(heights[b]), np.int64(widths[b])
        source = carray(_pointer(addresses[b]), (height * width,), pixel.dtype)
        matrix, image, flat = matrices[b], out[b], flat_out[b]
        following = min(b + 1, end - 1)
        ahead = _in_parts(addresses[following], np.int64(heights[following]) * widths[following] * pixel.itemsize, size)
        plain = mode != MODE_STANDARDIZE and not (blur_sigma[b] > 0 or noise_std[b] > 0)
        filtered = False
        if antialias is not None:  # noqa: SIM102  numba prunes this form only
            if math.hypot(matrix[0, 0], matrix[0, 1]) > 1.0 or math.hypot(matrix[1, 0], matrix[1, 1]) > 1.0:
                filtered = True
                _sample_filtered(source, height, width, matrix, fill[b], image, flat)
        if filtered:
            pass
        elif matrix[0, 1] == 0.0 and matrix[1, 0] == 0.0:
            fused = mode if plain else -1
            _sample_axis_aligned(
                source, height, width, matrix, fill[b], fused, eps, tap, weight, pairs, lines, sums, ahead, image
            )
            if plain:
                continue
        elif _fits_q20(matrix, size, height, width) and (height + 2) * (width + 1) + 2 <= pairs.shape[0]:
            total = _sample_affine(
                source, height, width, matrix, fill[b], pairs, quads, offset, weight, at, ahead, image
            )
            if plain:
                gain, shift = _gain_and_shift(total / (size * size), mode, eps)
                _normalize(flat, shift, gain)
                continue
        else:
            _sample_large(source, height, width, matrix, 1.0, 1.0, fill[b], image)
        if blur_sigma[b] > 0:
            _blur(image, np.float64(blur_sigma[b]), lines)
        if noise_std[b] > 0:
            _add_noise(image, F32(noise_std[b]), noise_seed[b], uniforms, normals)
        shift, gain = _shift_and_gain(flat, mode, eps)
        _normalize(flat, shift, gain)
