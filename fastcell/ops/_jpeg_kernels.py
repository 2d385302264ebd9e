"""Compiled loops that decode grey baseline JPEG, many cells in a call, to the very bits that libjpeg-turbo gives.

A cell is a small JPEG: a third of the time that a library takes for it goes into setting up a decoder and deriving
tables that are those of the cell before. Here these are kept, and one look at a table gives up to two symbols with
their runs, sizes and values. The inverse transform is libjpeg's accurate integer one (`jidctint.c`), in vectors.

What is not one grey component of 8 bits in one baseline scan without restarts (ITU-T T.81) is left to another decoder,
and so is all that looks damaged, coefficients included that no picture has: decoders differ there in what overflows.
Whatever the bytes are, also while another thread changes them, nothing outside of the memory given is read or written.

Addresses are int64; the first byte of a word in memory is its lowest. As in `_cell_kernels`, all is in one file for
numba's cache.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

OPTIONS = {"nogil": True, "error_model": "numpy"}
# Not compiled for Python, and without counts of who holds an array: these make none.
INTERNAL = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
INLINE = {**INTERNAL, "forceinline": True}

# Bits that a look at a table takes: a code that is longer with its value is rare.
LOOKUP_BITS = 11
_SHIFT = np.uint64(64 - LOOKUP_BITS)

# An entry: how many bits it takes, steps along the zigzag to the coefficient and from there to a second one, and the
# values of both. A step of END says that the block is complete, and leads to the place of its last coefficient + END.
END = 128
_STEPS, _MORE_STEPS, _VALUE, _SECOND = 8, 16, 24, 48

# Zeros behind a scan: what is looked at before it shows that it has ended.
PADDING = 64

# First coefficients beyond overflow in 16 bits; a picture's are within 1,024 and half a step of the quantiser.
_MOST_LEVEL = 8191

# Place of each coefficient of a scan in its block, row by row. A step out of it leads to the start of the next one.
ZIGZAG = np.full(64 + 2 * END, 64, np.uint8)
ZIGZAG[:64] = (
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22,
    15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
)  # fmt: skip

# What a header tells: addresses of the quantiser's 64 bytes, of the two Huffman tables' counts, and of the scan.
QUANTISER, DC_TABLE, AC_TABLE, SCAN = range(4)
_TABLE_BYTES = 16 + 256  # counts by length, symbols

#: Largest side of an image [px].
MOST_SIDE = 65535


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


_byte, _int16 = _load(8, types.uint8), _load(16, types.int16)
_int32, _int64 = _load(32, types.int32), _load(64, types.int64)
_word, _word_from_top = _load(64, types.uint64), _load(64, types.uint64, swap=True)
_put_byte, _put_int16, _put_word = _store(8, types.uint8), _store(16, types.int32), _store(64, types.uint64)
_put_int64 = _store(64, types.int64)


# -- inverse transform


def _constant(kind, value):  # type: ignore[no-untyped-def]
    return ir.Constant(kind, [value] * kind.count)


def _one_axis(builder, rows, bits, offset):  # type: ignore[no-untyped-def]
    """Eight vectors out of up to eight, the rest zero: one axis of the transform, `bits` fewer, with `offset`."""
    kind = rows[0].type

    def add(a, b):  # type: ignore[no-untyped-def]
        return b if a is None else a if b is None else builder.add(a, b)

    def sub(a, b):  # type: ignore[no-untyped-def]
        return a if b is None else builder.neg(b) if a is None else builder.sub(a, b)

    def times(a, factor):  # type: ignore[no-untyped-def]
        return None if a is None else builder.mul(a, _constant(kind, factor))

    x = [*rows, *[None] * (8 - len(rows))]
    z1 = times(add(x[2], x[6]), 4433)
    even2, even3 = add(z1, times(x[6], -15137)), add(z1, times(x[2], 6270))
    by13 = _constant(kind, 13)
    even0, even1 = builder.shl(add(x[0], x[4]), by13), builder.shl(sub(x[0], x[4]), by13)
    half = _constant(kind, (1 << (bits - 1)) + (offset << bits))
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
    by = _constant(kind, bits)
    plus = [builder.ashr(add(a, b), by) for a, b in zip(sums, odd, strict=True)]
    minus = [builder.ashr(sub(a, b), by) for a, b in zip(sums, odd, strict=True)]
    return [*plus, *reversed(minus)]


def _shuffled(builder, a, b, order):  # type: ignore[no-untyped-def]
    """Elements of two vectors, those of the second counted behind those of the first."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order)))


def _interleaved(builder, a, b, half, group):  # type: ignore[no-untyped-def]
    """Elements of two vectors in turns, of the first (0) or second (1) half of each group."""
    width = a.type.count
    places = [begin + half * group // 2 + n for begin in range(0, width, group) for n in range(group // 2)]
    return _shuffled(builder, a, b, [place + other for place in places for other in (0, width)])


def _transposed(builder, rows):  # type: ignore[no-untyped-def]
    """Each four elements of four vectors: rows to columns."""
    a, b, c, d = rows
    pairs = [_interleaved(builder, x, y, half, 4) for half in (0, 1) for x, y in ((a, c), (b, d))]
    return [_interleaved(builder, pairs[n], pairs[n + 1], half, 4) for n in (0, 2) for half in (0, 1)]


def _turned(builder, rows):  # type: ignore[no-untyped-def]
    """Columns of two blocks out of their 8 rows.

    Four elements stand together, in rows (A, B) of the blocks' halves or (A, A', B, B') of whole ones. A column has
    those of rows 0 to 3 of A, of B, then rows 4 to 7 of A, of B.
    """
    if rows[0].type.count == 8:
        wide = [_shuffled(builder, upper, lower, range(16)) for upper, lower in zip(rows[:4], rows[4:], strict=True)]
        return _transposed(builder, wide)
    upper, lower = _transposed(builder, rows[:4]), _transposed(builder, rows[4:])
    fours = [[place + n for place in (start, start + 8, start + 16, start + 24) for n in range(4)] for start in (0, 4)]
    return [_shuffled(builder, upper[n], lower[n], four) for four in fours for n in range(4)]


def _inverse_transform(side):  # type: ignore[no-untyped-def]
    """Coefficients of two blocks, A and B, one behind the other, to 8 x 16 grey levels.

    Of their rows and columns those from `side`, 4 or 8, on are zero. The first coefficient of each is given by itself:
    to write it where it is at once read in a wider piece would wait for the cache.

    Gives True, and any pixels, where a value between the two axes is far beyond what a picture can have (10,000): with
    16 bits for it, as vectors of libjpeg-turbo have, sums might overflow.
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
                both = _shuffled(builder, halves[0], halves[1], range(2 * side))
                rows.append(builder.sext(both, ir.VectorType(i32, 2 * side)))
            for block, corner in enumerate(corners):
                rows[0] = builder.insert_element(rows[0], corner, ir.Constant(i32, side * block))
            rows = _one_axis(builder, rows, 11, 0)
            # In -16384..16383 where no bit above the lower 15 is left.
            beyond, *others = [builder.add(row, _constant(row.type, 1 << 14)) for row in rows]
            for other in others:
                beyond = builder.or_(beyond, other)
            beyond = builder.icmp_unsigned(">=", beyond, _constant(beyond.type, 1 << 15))
            beyond = builder.bitcast(beyond, ir.IntType(beyond.type.count))
            columns = _one_axis(builder, _turned(builder, rows), 18, 128)
            zero, white = (_constant(columns[0].type, level) for level in (0, 255))
            four_columns = []
            for begin in (0, 4):  # a byte each of a word for every row
                packed = None
                for n in range(4):
                    level = columns[begin + n]
                    level = builder.select(builder.icmp_signed("<", level, zero), zero, level)
                    level = builder.select(builder.icmp_signed(">", level, white), white, level)
                    level = builder.shl(level, _constant(level.type, 8 * n))
                    packed = level if packed is None else builder.or_(packed, level)
                four_columns.append(packed)
            for half in range(2):  # rows 0, 1, 4 and 5, then the others, of A and B in turns
                turns = _interleaved(builder, four_columns[0], four_columns[1], half, 4)
                words = builder.bitcast(turns, ir.VectorType(i64, 8))
                words = _shuffled(builder, words, words, (0, 2, 1, 3, 4, 6, 5, 7))
                for n, row in enumerate((0, 1, 4, 5)):
                    two = _shuffled(builder, words, words, (2 * n, 2 * n + 1))
                    at = builder.add(target, builder.mul(stride, ir.Constant(i64, row + 2 * half)))
                    builder.store(two, builder.inttoptr(at, two.type.as_pointer()), align=1)
            return builder.icmp_unsigned("!=", beyond, ir.Constant(beyond.type, 0))

        return types.boolean(types.int64, types.int32, types.int32, types.int64, types.int64), codegen

    return transform


_transform_4, _transform_8 = _inverse_transform(4), _inverse_transform(8)


@njit(**INLINE)
def _flat(mean):  # type: ignore[no-untyped-def]
    """Eight bytes of the level that a block's first coefficient gives all of it."""
    return np.uint64(min(max(((mean + 4) >> 3) + 128, 0), 255)) * np.uint64(0x0101010101010101)


@intrinsic
def _clear(typingctx, address):  # type: ignore[no-untyped-def]
    """Set the 128 int16 of two blocks to zero."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kind = ir.VectorType(ir.IntType(64), 8)
        for part in range(4):
            at = builder.add(args[0], ir.Constant(ir.IntType(64), 64 * part))
            builder.store(ir.Constant(kind, [0] * 8), builder.inttoptr(at, kind.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


# -- Huffman codes


@njit(**INTERNAL)
def _derive(table, is_ac, singles, last_code, first_symbol):  # type: ignore[no-untyped-def]
    """Lookup of a Huffman code; False where the table holds none of a baseline scan.

    Args:
        table: address of the counts of codes by length, 1 to 16, with the symbols behind them.
        is_ac: of the coefficients behind the first one of a block.
        singles: (2 ** LOOKUP_BITS,) int64, gets an entry of one value for the next bits, 0 where they hold none whole.
        last_code: (18,) int64, gets for each length, from 1 on, the code behind its last, on the left of 16 bits, and
            what none reaches behind them.
        first_symbol: (18,) int64, gets the number of each length's first symbol less its first code.
    """
    singles[:] = 0
    code, number = 0, 0
    for length in range(1, 17):
        count = np.int64(_byte(table + length - 1))
        if code + count >= (1 << length) or number + count > 256:  # a code of ones alone is none
            return False
        first_symbol[length] = number - code
        for _ in range(count):
            symbol = np.int64(_byte(table + 16 + number))
            if not is_ac and symbol > 11:
                return False
            size = symbol & 15
            steps = _steps(symbol, is_ac)
            bits = length + size
            if bits <= LOOKUP_BITS and steps > 0:
                spare = LOOKUP_BITS - bits
                for extra in range(1 << size):
                    entry = bits | (steps << _STEPS) | ((_extended(extra, size) & 0xFFFF) << _VALUE)
                    begin = ((code << size) | extra) << spare
                    for place in range(begin, begin + (1 << spare)):
                        singles[place] = entry
            code += 1
            number += 1
        last_code[length] = code << (16 - length)
        code <<= 1
    last_code[17] = 1 << 17
    return True


@njit(**INLINE)
def _steps(symbol, is_ac):  # type: ignore[no-untyped-def]
    """Steps of a symbol, 0 for one that no baseline scan has."""
    if not is_ac:
        return 1
    size, run = symbol & 15, symbol >> 4
    if size == 0 and run < 15:
        return END if run == 0 else 0
    return run + 1


@njit(**INLINE)
def _extended(extra, size):  # type: ignore[no-untyped-def]
    """The value of `size` bits: T.81, EXTEND."""
    if size == 0:
        return np.int64(0)
    return np.int64(extra) if extra >= (1 << (size - 1)) else np.int64(extra) + 1 - (1 << size)


@njit(**INTERNAL)
def _pair_up(singles, behind, pairs):  # type: ignore[no-untyped-def]
    """Entries of two values out of those of one and of those that come behind it, where both fit."""
    for place in range(1 << LOOKUP_BITS):
        entry = singles[place]
        bits = entry & 0xFF
        if entry != 0 and ((entry >> _STEPS) & 0xFF) < END:
            second = behind[(place << bits) & ((1 << LOOKUP_BITS) - 1)]
            more = second & 0xFF
            if second != 0 and bits + more <= LOOKUP_BITS:
                steps, value = (second >> _STEPS) & 0xFF, (second >> _VALUE) & 0xFFFF
                entry += more | (steps << _MORE_STEPS) | (value << _SECOND)
        pairs[place] = entry


@njit(**INTERNAL)
def _long_entry(buffer, table, is_ac, last_code, first_symbol):  # type: ignore[no-untyped-def]
    """The entry of one value for the bits on top, of any length; 0 where they are no code."""
    bits = np.int64(buffer >> np.uint64(48))
    length = 1
    while bits >= last_code[length]:
        length += 1
    if length > 16:
        return np.int64(0)
    symbol = np.int64(_byte(table + 16 + (bits >> (16 - length)) + first_symbol[length]))
    size = symbol & 15
    steps = _steps(symbol, is_ac)
    if steps == 0:
        return np.int64(0)
    extra = np.int64((buffer << np.uint64(length)) >> np.uint64(64 - size)) if size > 0 else np.int64(0)
    return (length + size) | (steps << _STEPS) | ((_extended(extra, size) & 0xFFFF) << _VALUE)


# -- a cell


@njit(**INLINE)
def _two_bytes(at):  # type: ignore[no-untyped-def]
    return (np.int64(_byte(at)) << 8) | np.int64(_byte(at + 1))


@njit(**INLINE)
def _sum_of_counts(table):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for length in range(16):
        total += np.int64(_byte(table + length))
    return total


@njit(**INTERNAL)
def _read_header(begin, end, height, width, quantisers, tables, found):  # type: ignore[no-untyped-def]
    """Walk the segments up to the scan: whether it is one that is decoded here.

    Args:
        begin, end: address of the first byte and of the one behind the last.
        height, width: that it must say.
        quantisers, tables: (4,) and (8,) int64, for addresses by number.
        found: (4,) int64, gets the addresses; see above.
    """
    quantisers[:] = 0
    tables[:] = 0
    component, quantiser = -1, -1
    if begin + 4 > end or _two_bytes(begin) != 0xFFD8:
        return False
    at = begin + 2
    while at + 4 <= end and _byte(at) == 0xFF:
        marker, length = _byte(at + 1), _two_bytes(at + 2)
        body, stop = at + 4, at + 2 + length
        if length < 2 or stop > end:
            return False
        if marker == 0xDB:  # quantisers, of 8 bits
            while body + 65 <= stop and _byte(body) < 4:
                quantisers[_byte(body)] = body + 1
                body += 65
            if body != stop:
                return False
        elif marker == 0xC4:  # Huffman tables
            while body + 17 <= stop:
                kind, total = np.int64(_byte(body)), _sum_of_counts(body + 1)
                if (kind & 0xEC) != 0 or total > 256 or body + 17 + total > stop:
                    return False
                tables[(kind >> 4) * 4 + (kind & 3)] = body + 1
                body += 17 + total
            if body != stop:
                return False
        elif marker == 0xC0:  # baseline frame: 8 bits, sides, one component
            if component >= 0 or length != 11 or _byte(body) != 8 or _byte(body + 5) != 1:
                return False
            if _two_bytes(body + 1) != height or _two_bytes(body + 3) != width:
                return False
            sampling = _byte(body + 7)
            if not (1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4):
                return False
            component, quantiser = np.int64(_byte(body + 6)), np.int64(_byte(body + 8))
        elif marker == 0xDA:  # scan: that component, all of its coefficients, all of their bits
            if length != 8 or component < 0 or quantiser > 3:
                return False
            if _byte(body) != 1 or _byte(body + 1) != component or _two_bytes(body + 3) != 63 or _byte(body + 5) != 0:
                return False
            which = np.int64(_byte(body + 2))
            if (which & 0xCC) != 0:
                return False
            found[QUANTISER] = quantisers[quantiser]
            found[DC_TABLE], found[AC_TABLE] = tables[which >> 4], tables[4 + (which & 15)]
            found[SCAN] = stop
            return found[QUANTISER] != 0 and found[DC_TABLE] != 0 and found[AC_TABLE] != 0
        elif marker != 0xE0 and marker != 0xFE and not 0xE2 <= marker <= 0xEF:
            return False  # an orientation may be in E1; restarts, other kinds of scan, bytes that fill
        at = stop
    return False


@njit(**INTERNAL)
def _replace_table(table, kept):  # type: ignore[no-untyped-def]
    """Keep a table; whether it is another one than was kept."""
    size = 16 + _sum_of_counts(table)
    differ = np.uint8(0)
    for n in range(size):
        differ |= _byte(table + n) ^ _byte(kept + n)
    if differ == 0:
        return False
    for n in range(size):
        _put_byte(kept + n, _byte(table + n))
    return True


@njit(**INTERNAL)
def _unstuff(at, end, target):  # type: ignore[no-untyped-def]
    """Copy a scan up to the marker that ends the image, without the zeros behind bytes 255.

    Returns:
        How many bytes it has, -1 where another marker or none comes behind it. 8 bytes more may be written.
    """
    out = target
    ones, tops = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    while at + 10 <= end:
        word = _word(at)
        _put_word(out, word)
        if ((~word - ones) & word & tops) == 0:  # no byte of it is 255
            at += 8
            out += 8
            continue
        while _byte(at) != 255:
            at += 1
            out += 1
        if _byte(at + 1) != 0:
            return (out - target) if _byte(at + 1) == 0xD9 else np.int64(-1)
        at += 2
        out += 1
    while at + 1 < end:
        value = _byte(at)
        if value == 255:
            if _byte(at + 1) != 0:
                return (out - target) if _byte(at + 1) == 0xD9 else np.int64(-1)
            at += 1
        _put_byte(out, value)
        out += 1
        at += 1
    return np.int64(-1)


@njit(**INTERNAL)
def _decode_scan(  # type: ignore[no-untyped-def]
    scan,
    num_bytes,
    height,
    width,
    target,
    zigzag,
    quantiser,
    dc,
    ac,
    ac_singles,
    tables,
    last_code,
    first_symbol,
    blocks,
    lasts,
    edge,
):
    """Write the pixels of a scan, or a part of them: whether all was as it should be.

    Symbols of a row of blocks are decoded in one loop that knows blocks by arithmetic alone: a branch at the end of
    each would be guessed wrong, which costs more than all it does.

    That nothing outside is touched: a look begins at place 62 or before it; its steps are two of 16 at most, or one and
    END, so no place is beyond 62 + 16 + END, which zigzag and quantiser reach to. From place 64 on the one leads to the
    start of the next block, of which there is one more than are counted, and the other makes a zero of what is written
    there before its own first coefficient is.

    Args:
        scan: address of its bytes, `PADDING` zeros behind them.
        num_bytes: how many there are.
        target: address of (height, width) uint8.
        zigzag: address of `ZIGZAG`.
        quantiser: address of int32 in the order of the scan, zeros behind the 64.
        dc, ac, ac_singles: addresses of the lookups: for the first coefficient of a block, the others, one by one.
        tables: address of both tables' counts and symbols.
        last_code, first_symbol: (2, 18) int64 of both.
        blocks: address of a row's coefficients and two blocks more, 64 int16 each that are zero and left so.
        lasts: address of int64, one for each of those blocks.
        edge: address of 128 uint8.
    """
    # On top of the buffer lie `count` bits or more that were not taken yet, then those of the bytes from `at` on.
    buffer, count = np.uint64(0), np.int64(0)
    at, end = scan, scan + num_bytes
    num_blocks = (width + 7) >> 3
    level = np.int16(0)
    for top in range(0, height, 8):
        number, place, lookup = np.int64(0), np.int64(-1), dc
        while number < num_blocks:
            buffer |= _word_from_top(at) >> np.uint64(count)
            at += (63 - count) >> 3
            count |= 56
            if at > end + 8:
                return False
            for _ in range(3):  # 56 bits: two looks of 11, and a symbol of 16 with 15 more
                entry = _int64(lookup + (np.int64(buffer >> _SHIFT) << 3))
                is_long = entry == 0
                if is_long:
                    which = 0 if place < 0 else 1
                    table = tables + which * _TABLE_BYTES
                    entry = _long_entry(buffer, table, which == 1, last_code[which], first_symbol[which])
                    if entry == 0:
                        return False
                first = place + ((entry >> _STEPS) & 0xFF)
                if first == 63 and not is_long:  # the last of the block: what follows is another's
                    entry = _int64(ac_singles + (np.int64(buffer >> _SHIFT) << 3))
                buffer <<= np.uint64(entry & 63)
                count -= entry & 63
                # The second value first: where there is none, its place is that of the first, which is written behind.
                place = first + ((entry >> _MORE_STEPS) & 0xFF)
                value = np.int32(entry >> _SECOND) * _int32(quantiser + (place << 2))
                block = blocks + (number << 7)
                _put_int16(block + (np.int64(_byte(zigzag + place)) << 1), value)
                value = np.int32((entry << (48 - _VALUE)) >> 48) * _int32(quantiser + (first << 2))
                _put_int16(block + (np.int64(_byte(zigzag + first)) << 1), value)
                _put_int64(lasts + (number << 3), place)
                is_complete = place >= 63
                number += np.int64(is_complete)
                lookup = dc if is_complete else ac
                place = np.int64(-1) if is_complete else place
                if is_long or number >= num_blocks:
                    break
        rows = min(8, height - top)
        for left in range(0, width, 16):
            pair = blocks + (left << 4)
            most = np.int64(0)  # along the zigzag, the last of both blocks that is not zero
            levels = (np.int32(0), np.int32(0))
            for which in range(2):
                if left + 8 * which < width:
                    last = _int64(lasts + (left + 8 * which))
                    last = 63 if last == 63 else last - END
                    if not 0 <= last <= 63:
                        return False
                    most = max(most, last)
                    level = np.int16(level + _int16(pair + 128 * which))
                    levels = (np.int32(level), levels[1]) if which == 0 else (levels[0], np.int32(level))
            if max(abs(levels[0]), abs(levels[1])) > _MOST_LEVEL:
                return False
            corner = target + top * width + left
            is_whole = rows == 8 and left + 16 <= width
            to = corner if is_whole else edge
            stride = width if is_whole else np.int64(16)
            if most == 0:
                one, other = _flat(levels[0]), _flat(levels[1])
                for row in range(8):
                    _put_word(to + row * stride, one)
                    _put_word(to + row * stride + 8, other)
            elif most <= 9:  # along the zigzag, these are all in the upper left 4 x 4
                if _transform_4(pair, levels[0], levels[1], to, stride):
                    return False
            elif _transform_8(pair, levels[0], levels[1], to, stride):
                return False
            _clear(pair)
            if not is_whole:
                columns = min(16, width - left)
                for row in range(rows):
                    source, line = edge + 16 * row, corner + row * width
                    for word in range(columns >> 3):
                        _put_word(line + 8 * word, _word(source + 8 * word))
                    for column in range(columns & ~7, columns):
                        _put_byte(line + column, _byte(source + column))
    return (at << 3) - count <= (end << 3)


@njit(cache=True, **OPTIONS)
def decode_range(data, starts, sizes, heights, widths, target, offsets, zigzag, is_done, begin, end):  # type: ignore[no-untyped-def]
    """Decode the cells from `begin` up to `end`.

    Args:
        data: address of encoded bytes; the caller answers for their extent, as for the target's.
        starts, sizes: (B,) int64, where each cell lies in them.
        heights, widths: (B,) int32, that each must have.
        target: address of uint8 pixels.
        offsets: (B,) int64, where each cell's `height * width` begin in them.
        zigzag: address of `ZIGZAG`.
        is_done: (B,) bool, gets whether a cell was decoded. Of one that was not anything may be in its place.
    """
    num_bytes, num_columns = np.int64(0), np.int64(0)
    for cell in range(begin, end):
        if 1 <= heights[cell] <= MOST_SIDE and 1 <= widths[cell] <= MOST_SIDE:
            num_bytes = max(num_bytes, sizes[cell])
            num_columns = max(num_columns, np.int64(widths[cell]))
    num_blocks = (num_columns + 7) // 8 + 2
    # An array is freed behind the last line that names it: where an address is taken, it is taken in the loop.
    copied, scan = np.empty(num_bytes, np.uint8), np.empty(num_bytes + PADDING + 16, np.uint8)
    quantiser = np.zeros(64 + 2 * END, np.int32)
    singles, pairs = np.zeros((2, 1 << LOOKUP_BITS), np.int64), np.zeros((2, 1 << LOOKUP_BITS), np.int64)
    last_code, first_symbol = np.zeros((2, 18), np.int64), np.zeros((2, 18), np.int64)
    kept, is_kept = np.zeros(2 * _TABLE_BYTES, np.uint8), np.zeros(2, np.bool_)
    blocks, lasts = np.zeros(64 * num_blocks, np.int16), np.zeros(num_blocks, np.int64)
    edge = np.zeros(128, np.uint8)
    quantisers, tables, found = np.zeros(4, np.int64), np.zeros(8, np.int64), np.zeros(4, np.int64)
    for cell in range(begin, end):
        is_done[cell] = False
        height, width, size = np.int64(heights[cell]), np.int64(widths[cell]), sizes[cell]
        if not (1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE):
            continue
        first = np.int64(copied.ctypes.data)  # of a copy: what was looked at must not change before it is used
        source = np.int64(data + starts[cell])
        for n in range(size):
            _put_byte(first + n, _byte(source + n))
        if not _read_header(first, first + size, height, width, quantisers, tables, found):
            continue
        is_new = False
        for which in range(2):
            table = np.int64(kept.ctypes.data) + which * _TABLE_BYTES
            if _replace_table(found[DC_TABLE + which], table) or not is_kept[which]:
                is_kept[which] = _derive(table, which == 1, singles[which], last_code[which], first_symbol[which])
                is_new = True
        if is_new:
            for which in range(2):
                _pair_up(singles[which], singles[1], pairs[which])
        scan_at = np.int64(scan.ctypes.data)
        scan_size = _unstuff(found[SCAN], first + size, scan_at)
        if scan_size < 0 or not is_kept[0] or not is_kept[1]:
            continue
        scan[scan_size : scan_size + PADDING] = 0
        for place in range(64):
            quantiser[place] = np.int32(_byte(found[QUANTISER] + place))
        is_done[cell] = _decode_scan(
            scan_at,
            scan_size,
            height,
            width,
            np.int64(target + offsets[cell]),
            np.int64(zigzag),
            np.int64(quantiser.ctypes.data),
            np.int64(pairs[0].ctypes.data),
            np.int64(pairs[1].ctypes.data),
            np.int64(singles[1].ctypes.data),
            np.int64(kept.ctypes.data),
            last_code,
            first_symbol,
            np.int64(blocks.ctypes.data),
            np.int64(lasts.ctypes.data),
            np.int64(edge.ctypes.data),
        )
        if not is_done[cell]:
            blocks[: 64 * ((width + 7) // 8 + 2)] = 0
