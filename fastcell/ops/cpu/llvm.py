"""Instructions that the compiled loops need and numba has no words for, written as code of LLVM.

Numba compiles Python to LLVM, the compiler's own language. Where a loop depends on an exact instruction, an intrinsic
here emits it: a load from an address, of two or four pixels as one word; the bits of a float; a request for a cache
line; shuffles of vectors. Compilers do not vectorise a loop that loads from computed places, so such a loop gathers
words of neighbouring pixels, one load each, and does nothing else; the loops before and after it vectorise. Arithmetic
on vectors that is one operation as a whole stands with that operation (`fastcell.ops.cpu.jpeg.idct`).

Nothing is checked here: addresses and places are the caller's to answer for. Words are little-endian.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from fastcell.ops.cpu.compiled_loops import FAST, INLINE

# Bytes; of the next cell no more than this is fetched ahead, so that the second-level cache holds it.
CACHE_LINE, MOST_AHEAD = 64, 1 << 16

# ---------------------------------------------------------------------------------------------------------------------
# Pixels as words, the bits of floats.


@intrinsic
def pointer(typingctx, address):  # type: ignore[no-untyped-def]
    """Turn an integer address into a pointer."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), codegen


@intrinsic
def float_bits(typingctx, value):  # type: ignore[no-untyped-def]
    """Bit pattern of a float32 as int32."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), codegen


@intrinsic
def bits_float(typingctx, bits):  # type: ignore[no-untyped-def]
    """Float32 with the bit pattern of an int32."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@intrinsic
def bit_width(typingctx, value):  # type: ignore[no-untyped-def]
    """Width of an integer's type, known to the compiler."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return context.get_constant(types.int64, value.bitwidth)

    return types.int64(value), codegen


@intrinsic
def grey_unit(typingctx, source):  # type: ignore[no-untyped-def]
    """Grey levels per unit of a pixel of `source`, known to the compiler: 65535 of uint16 is 255 of uint8."""
    unit = 1.0 / 257.0 if source.dtype == types.uint16 else 1.0

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return context.get_constant(types.float32, unit)

    return types.float32(source), codegen


@intrinsic
def join_words(typingctx, low, high):  # type: ignore[no-untyped-def]
    """Two unsigned integers in one of twice the width."""
    word = types.Integer.from_bitwidth(2 * low.bitwidth, signed=False)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        low_bits, high_bits = (builder.zext(arg, context.get_value_type(word)) for arg in args)
        return builder.or_(low_bits, builder.shl(high_bits, context.get_constant(word, low.bitwidth)))

    return word(low, low), codegen


@intrinsic
def pair_at(typingctx, array, at):  # type: ignore[no-untyped-def]
    """Elements `at` and `at` + 1 of an unsigned array, joined by one load as `join_words` does (little-endian)."""
    bits = array.dtype.bitwidth
    word = types.Integer.from_bitwidth(2 * bits, signed=False)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), context.get_value_type(word).as_pointer())
        return builder.load(place, align=bits // 8)

    return word(array, types.int64), codegen


@njit(**INLINE, **FAST)
def field(word, index, count):  # type: ignore[no-untyped-def]
    """Pixel `index` of the `count` in a word, as float32."""
    width = bit_width(word) // count
    return np.float32(np.int32((word >> type(word)(index * width)) & type(word)((1 << width) - 1)))


# ---------------------------------------------------------------------------------------------------------------------
# The next cell, fetched while this one is worked on.


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


@njit(**INLINE, **FAST)
def prefetch_part(ahead, part):  # type: ignore[no-untyped-def]
    """Ask for one of the parts of the next cell; `ahead` is its first and past-the-last address and a part's bytes."""
    first, last, step = ahead
    begin = first + part * step
    for address in range(begin, min(begin + step, last), CACHE_LINE):
        _prefetch(address)


@njit(**INLINE, **FAST)
def in_parts(address, num_bytes, parts):  # type: ignore[no-untyped-def]
    """The first of `num_bytes` from an address on, in so many parts of whole cache lines, for `prefetch_part`."""
    num_bytes = min(num_bytes, MOST_AHEAD)
    lines = (num_bytes + CACHE_LINE * parts - 1) // (CACHE_LINE * parts)
    return address, address + num_bytes, lines * CACHE_LINE


# ---------------------------------------------------------------------------------------------------------------------
# Loads and stores at int64 addresses, aligned or not.


def _load(bits, numba_type, swap=False):  # type: ignore[no-untyped-def]
    """A load from any address; `swap`: the first byte on top."""

    @intrinsic
    def load(typingctx, address):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            value = builder.load(builder.inttoptr(args[0], ir.IntType(bits).as_pointer()), align=1)
            return builder.bswap(value) if swap else value

        return numba_type(types.int64), codegen

    return load


def _store(bits, numba_type):  # type: ignore[no-untyped-def]
    """A store to any address, of the low bits of a value."""

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
# Vectors, for intrinsics: functions of the builder of instructions.


def vector_of(kind, value):  # type: ignore[no-untyped-def]
    return ir.Constant(kind, [value] * kind.count)


def shuffled(builder, a, b, order):  # type: ignore[no-untyped-def]
    """Elements of two vectors, those of the second counted behind those of the first."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order)))


def interleaved(builder, a, b, half, group):  # type: ignore[no-untyped-def]
    """Elements of two vectors in turns, of the first (0) or second (1) half of each group."""
    width = a.type.count
    places = [begin + half * group // 2 + n for begin in range(0, width, group) for n in range(group // 2)]
    return shuffled(builder, a, b, [place + other for place in places for other in (0, width)])


def transposed(builder, rows):  # type: ignore[no-untyped-def]
    """Each four elements of four vectors: rows to columns."""
    a, b, c, d = rows
    pairs = [interleaved(builder, x, y, half, 4) for half in (0, 1) for x, y in ((a, c), (b, d))]
    return [interleaved(builder, pairs[n], pairs[n + 1], half, 4) for n in (0, 2) for half in (0, 1)]
