"""Vectorised inverse cosine transform of two JPEG blocks: libjpeg's accurate integer transform (`jidctint.c`)."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from fastcell.ops.cpu.compiled_loops import INLINE
from fastcell.ops.cpu.llvm import interleaved, shuffled, transposed, vector_of


def _one_axis(builder, rows, bits, offset):  # type: ignore[no-untyped-def]
    """Transform one axis: up to eight vectors, the rest zero, to eight; add `offset`, then drop `bits` bits."""
    kind = rows[0].type

    def add(a, b):  # type: ignore[no-untyped-def]
        return b if a is None else a if b is None else builder.add(a, b)

    def sub(a, b):  # type: ignore[no-untyped-def]
        return a if b is None else builder.neg(b) if a is None else builder.sub(a, b)

    def times(a, factor):  # type: ignore[no-untyped-def]
        return None if a is None else builder.mul(a, vector_of(kind, factor))

    x = [*rows, *[None] * (8 - len(rows))]
    z1 = times(add(x[2], x[6]), 4433)
    even2, even3 = add(z1, times(x[6], -15137)), add(z1, times(x[2], 6270))
    by13 = vector_of(kind, 13)
    even0, even1 = builder.shl(add(x[0], x[4]), by13), builder.shl(sub(x[0], x[4]), by13)
    half = vector_of(kind, (1 << (bits - 1)) + (offset << bits))
    even0, even1 = builder.add(even0, half), builder.add(even1, half)
    sums = [add(even0, even3), add(even1, even2), sub(even1, even2), sub(even0, even3)]
    z1, z2, z3, z4 = add(x[7], x[1]), add(x[5], x[3]), add(x[7], x[3]), add(x[5], x[1])
    z5 = times(add(z3, z4), 9633)
    z1, z2 = times(z1, -7373), times(z2, -20995)
    z3, z4 = add(times(z3, -16069), z5), add(times(z4, -3196), z5)
    odd = [
        add(times(x[1], 12299), add(z1, z4)),
        add(times(x[3], 25172), add(z2, z3)),
        add(times(x[5], 16819), add(z2, z4)),
        add(times(x[7], 2446), add(z1, z3)),
    ]
    by = vector_of(kind, bits)
    plus = [builder.ashr(add(a, b), by) for a, b in zip(sums, odd, strict=True)]
    minus = [builder.ashr(sub(a, b), by) for a, b in zip(sums, odd, strict=True)]
    return [*plus, *reversed(minus)]


def _turned(builder, rows):  # type: ignore[no-untyped-def]
    """Transpose two blocks: return their columns from their 8 rows.

    Groups of four elements stay together, in rows as (A, B) for half blocks or (A, A', B, B') for whole blocks. A
    column holds rows 0 to 3 of A and of B, then rows 4 to 7 of A and of B.
    """
    if rows[0].type.count == 8:
        wide = [shuffled(builder, upper, lower, range(16)) for upper, lower in zip(rows[:4], rows[4:], strict=True)]
        return transposed(builder, wide)
    upper, lower = transposed(builder, rows[:4]), transposed(builder, rows[4:])
    fours = [[place + n for place in (start, start + 8, start + 16, start + 24) for n in range(4)] for start in (0, 4)]
    return [shuffled(builder, upper[n], lower[n], four) for four in fours for n in range(4)]


def _inverse_transform(side):  # type: ignore[no-untyped-def]
    """Return an intrinsic that transforms the coefficients of two consecutive blocks, A and B, to 8 x 16 grey levels.

    Rows and columns of the blocks from `side` (4 or 8) on are zero. The first coefficient of each block is passed
    separately: a wide load directly after storing it in the block would stall on the store.

    The intrinsic returns True, and undefined pixels, if a value between the two passes is far beyond that of a real
    image (10,000): sums could then overflow the 16-bit values that the vectors of libjpeg-turbo use.
    """

    @intrinsic
    def transform(typingctx, coefficients, first, second, target, stride):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            source, *corners, target, stride = args
            i16, i32, i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
            narrow = ir.VectorType(i16, side)
            rows = []
            for row in range(side):
                halves = []
                for block in range(2):
                    at = builder.add(source, ir.Constant(i64, 16 * row + 128 * block))
                    halves.append(builder.load(builder.inttoptr(at, narrow.as_pointer()), align=2))
                both = shuffled(builder, halves[0], halves[1], range(2 * side))
                rows.append(builder.sext(both, ir.VectorType(i32, 2 * side)))
            for block, corner in enumerate(corners):
                rows[0] = builder.insert_element(rows[0], corner, ir.Constant(i32, side * block))
            rows = _one_axis(builder, rows, 11, 0)
            # A value is in -16384..16383 if no bit above the lower 15 is set after the addition.
            beyond, *others = [builder.add(row, vector_of(row.type, 1 << 14)) for row in rows]
            for other in others:
                beyond = builder.or_(beyond, other)
            beyond = builder.icmp_unsigned(">=", beyond, vector_of(beyond.type, 1 << 15))
            beyond = builder.bitcast(beyond, ir.IntType(beyond.type.count))
            columns = _one_axis(builder, _turned(builder, rows), 18, 128)
            zero, white = (vector_of(columns[0].type, level) for level in (0, 255))
            four_columns = []
            for begin in (0, 4):  # for every row one byte of a word
                packed = None
                for n in range(4):
                    level = columns[begin + n]
                    level = builder.select(builder.icmp_signed("<", level, zero), zero, level)
                    level = builder.select(builder.icmp_signed(">", level, white), white, level)
                    level = builder.shl(level, vector_of(level.type, 8 * n))
                    packed = level if packed is None else builder.or_(packed, level)
                four_columns.append(packed)
            for half in range(2):  # rows 0, 1, 4 and 5, then the others, alternating between A and B
                turns = interleaved(builder, four_columns[0], four_columns[1], half, 4)
                words = builder.bitcast(turns, ir.VectorType(i64, 8))
                words = shuffled(builder, words, words, (0, 2, 1, 3, 4, 6, 5, 7))
                for n, row in enumerate((0, 1, 4, 5)):
                    two = shuffled(builder, words, words, (2 * n, 2 * n + 1))
                    at = builder.add(target, builder.mul(stride, ir.Constant(i64, row + 2 * half)))
                    builder.store(two, builder.inttoptr(at, two.type.as_pointer()), align=1)
            return builder.icmp_unsigned("!=", beyond, ir.Constant(beyond.type, 0))

        return types.boolean(types.int64, types.int32, types.int32, types.int64, types.int64), codegen

    return transform


transform_4, transform_8 = _inverse_transform(4), _inverse_transform(8)


@njit(**INLINE)
def flat(mean):  # type: ignore[no-untyped-def]
    """Return eight bytes of the grey level of a block that has only a first coefficient."""
    return np.uint64(min(max(((mean + 4) >> 3) + 128, 0), 255)) * np.uint64(0x0101010101010101)


@intrinsic
def clear(typingctx, address):  # type: ignore[no-untyped-def]
    """Set the 128 int16 of two blocks to zero."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kind = ir.VectorType(ir.IntType(64), 8)
        for part in range(4):
            at = builder.add(args[0], ir.Constant(ir.IntType(64), 64 * part))
            builder.store(ir.Constant(kind, [0] * 8), builder.inttoptr(at, kind.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(types.int64), codegen
