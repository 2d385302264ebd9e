"""Machine instructions that the compiled loops need and numba cannot express, written as LLVM code.

Numba compiles Python to LLVM, the intermediate language of the compiler. If a loop depends on an exact instruction, an
intrinsic in this module emits it: a load from an address, or of two or four pixels as one word; the bits of a float; a
prefetch of a cache line; vector shuffles. Compilers do not vectorise a loop that loads from computed indices. Such a
loop therefore only gathers words of neighbouring pixels, one load each; the loops before and after it vectorise.
Vector arithmetic that forms a complete operation is kept with that operation (`fastcell.ops.cpu.jpeg.idct`).

Nothing is checked here: the caller is responsible for addresses and indices. Words are little-endian.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from fastcell.ops.cpu.compiled_loops import FAST, INLINE

# Both in bytes. At most MOST_AHEAD bytes of the next cell are prefetched, so that they fit into the second-level cache.
CACHE_LINE, MOST_AHEAD = 64, 1 << 16

# ---------------------------------------------------------------------------------------------------------------------
# Pixels as words, and the bits of floats.


@intrinsic
def array_at(typingctx, address, count, like):  # type: ignore[no-untyped-def]
    """Return the `count` elements at an integer address as an array of one dimension with the element type of `like`.

    The array does not keep the memory alive. Unlike `numba.carray`, this works in functions that create no arrays.
    """
    kind = types.Array(like.dtype, 1, "C")

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        array = context.make_array(kind)(context, builder)
        item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
        data = builder.inttoptr(args[0], array.data.type)
        populate_array(array, data=data, shape=[args[1]], strides=[item], itemsize=item, meminfo=None)
        return array._getvalue()

    return kind(types.int64, types.int64, like), codegen


@intrinsic
def float_bits(typingctx, value):  # type: ignore[no-untyped-def]
    """Return the bit pattern of a float32 as int32."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), codegen


@intrinsic
def bits_float(typingctx, bits):  # type: ignore[no-untyped-def]
    """Return the float32 with the bit pattern of an int32."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@intrinsic
def bit_width(typingctx, value):  # type: ignore[no-untyped-def]
    """Return the width of an integer's type [bits] as a compile-time constant."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return context.get_constant(types.int64, value.bitwidth)

    return types.int64(value), codegen


@intrinsic
def grey_unit(typingctx, source):  # type: ignore[no-untyped-def]
    """Return the grey levels per pixel unit of `source` as a compile-time constant: uint16 65535 equals uint8 255."""
    unit = 1.0 / 257.0 if source.dtype == types.uint16 else 1.0

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return context.get_constant(types.float32, unit)

    return types.float32(source), codegen


@intrinsic
def join_words(typingctx, low, high):  # type: ignore[no-untyped-def]
    """Join two unsigned integers into one of twice the width."""
    word = types.Integer.from_bitwidth(2 * low.bitwidth, signed=False)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        low_bits, high_bits = (builder.zext(arg, context.get_value_type(word)) for arg in args)
        return builder.or_(low_bits, builder.shl(high_bits, context.get_constant(word, low.bitwidth)))

    return word(low, low), codegen


@intrinsic
def pair_at(typingctx, array, at):  # type: ignore[no-untyped-def]
    """Load elements `at` and `at` + 1 of an unsigned array at once, joined as in `join_words` (little-endian)."""
    bits = array.dtype.bitwidth
    word = types.Integer.from_bitwidth(2 * bits, signed=False)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), context.get_value_type(word).as_pointer())
        return builder.load(place, align=bits // 8)

    return word(array, types.int64), codegen


@njit(**INLINE, **FAST)
def field(word, index, count):  # type: ignore[no-untyped-def]
    """Return pixel `index` of the `count` pixels in a word, as float32."""
    width = bit_width(word) // count
    return np.float32(np.int32((word >> type(word)(index * width)) & type(word)((1 << width) - 1)))


# ---------------------------------------------------------------------------------------------------------------------
# Prefetch of the next cell while the current one is processed.


@intrinsic
def _prefetch(typingctx, address):  # type: ignore[no-untyped-def]
    """Prefetch the cache line of an integer address for reading; invalid addresses are harmless."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        place, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place, flag, flag, flag])
        ask = builder.module.declare_intrinsic("llvm.prefetch", (place,), kind)
        read, into_second_level, data = (ir.Constant(flag, number) for number in (0, 2, 1))
        builder.call(ask, [builder.inttoptr(args[0], place), read, into_second_level, data])
        return context.get_dummy_value()

    return types.void(address), codegen


@njit(**INLINE, **FAST)
def prefetch_part(ahead, part):  # type: ignore[no-untyped-def]
    """Prefetch one part of the next cell; `ahead` is (first address, past-the-end address, bytes per part)."""
    first, last, step = ahead
    begin = first + part * step
    for address in range(begin, min(begin + step, last), CACHE_LINE):
        _prefetch(address)


@njit(**INLINE, **FAST)
def in_parts(address, num_bytes, parts):  # type: ignore[no-untyped-def]
    """Divide the first of `num_bytes` at an address into `parts` parts of whole cache lines, for `prefetch_part`."""
    num_bytes = min(num_bytes, MOST_AHEAD)
    lines = (num_bytes + CACHE_LINE * parts - 1) // (CACHE_LINE * parts)
    return address, address + num_bytes, lines * CACHE_LINE


# ---------------------------------------------------------------------------------------------------------------------
# Loads and stores at int64 addresses, aligned or not.


def _load(bits, numba_type, swap=False):  # type: ignore[no-untyped-def]
    """Return an intrinsic that loads from any address; with `swap` the first byte is the most significant."""

    @intrinsic
    def load(typingctx, address):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            value = builder.load(builder.inttoptr(args[0], ir.IntType(bits).as_pointer()), align=1)
            return builder.bswap(value) if swap else value

        return numba_type(types.int64), codegen

    return load


def _store(bits, numba_type):  # type: ignore[no-untyped-def]
    """Return an intrinsic that stores the low bits of a value at any address."""

    @intrinsic
    def store(typingctx, address, value):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            kind = ir.IntType(bits)
            value = args[1] if args[1].type == kind else builder.trunc(args[1], kind)
            builder.store(value, builder.inttoptr(args[0], kind.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, numba_type), codegen

    return store


load_byte, load_int16 = _load(8, types.uint8), _load(16, types.int16)
load_int32, load_int64 = _load(32, types.int32), _load(64, types.int64)
load_word, load_word_from_top = _load(64, types.uint64), _load(64, types.uint64, swap=True)
store_byte, store_int16, store_word = _store(8, types.uint8), _store(16, types.int32), _store(64, types.uint64)
store_int64 = _store(64, types.int64)


# ---------------------------------------------------------------------------------------------------------------------
# Vectors, for use in intrinsics: functions of the instruction builder.


def vector_of(kind, value):  # type: ignore[no-untyped-def]
    return ir.Constant(kind, [value] * kind.count)


def shuffled(builder, a, b, order):  # type: ignore[no-untyped-def]
    """Shuffle the elements of two vectors; indices of `b` continue after those of `a`."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order)))


def interleaved(builder, a, b, half, group):  # type: ignore[no-untyped-def]
    """Interleave two vectors, taking the first (0) or second (1) half of each group."""
    width = a.type.count
    places = [begin + half * group // 2 + n for begin in range(0, width, group) for n in range(group // 2)]
    return shuffled(builder, a, b, [place + other for place in places for other in (0, width)])


def transposed(builder, rows):  # type: ignore[no-untyped-def]
    """Transpose each block of four elements of four vectors."""
    a, b, c, d = rows
    pairs = [interleaved(builder, x, y, half, 4) for half in (0, 1) for x, y in ((a, c), (b, d))]
    return [interleaved(builder, pairs[n], pairs[n + 1], half, 4) for n in (0, 2) for half in (0, 1)]
