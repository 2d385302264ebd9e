"""Compiled loop that decodes many grey baseline JPEG images per call, bit-identical to libjpeg-turbo.

A cell is a small JPEG. A library spends a third of its time on setting up a decoder and on deriving tables that equal
those of the previous cell. This module keeps the tables: 400 simulated cells of 1.5 kB took 14 µs of CPU time each,
27 with simplejpeg 1.9 and 31 with OpenCV 5.0, with the same pixels (one core of an AMD EPYC, in alternation, medians of
15 rounds).

It decodes images of one 8-bit grey component in one baseline scan without restarts (ITU-T T.81). Everything else is
left to another decoder, and so are images that look damaged. These include images with coefficients that no real image
produces, because decoders differ in what overflows. Whatever the bytes are, even while another thread changes them, no
memory outside the given arrays is read or written.

Addresses are int64. Words are little-endian.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import INLINE, INTERNAL, OPTIONS, entry
from fastcell.ops.cpu.jpeg.huffman import (
    END,
    LOOKUP_BITS,
    LOOKUP_SHIFT,
    MORE_STEPS,
    SECOND,
    STEPS,
    TABLE_BYTES,
    VALUE,
    derive,
    long_entry,
    pair_up,
)
from fastcell.ops.cpu.jpeg.idct import clear, flat, transform_4, transform_8
from fastcell.ops.cpu.llvm import (
    load_byte,
    load_int16,
    load_int32,
    load_int64,
    load_word,
    load_word_from_top,
    store_byte,
    store_int16,
    store_int64,
    store_word,
)

# Zeros after a scan. The end of the scan is detected before the decoder reads beyond them.
PADDING = 64

# Larger first coefficients overflow 16 bits; those of a real image are within 1,024 plus half a quantiser step.
_MOST_LEVEL = 8191

# Position in the block, row by row, of each coefficient of a scan. A step beyond 63 leads to the next block's start.
ZIGZAG = np.full(64 + 2 * END, 64, np.uint8)
ZIGZAG[:64] = (
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22,
    15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
)  # fmt: skip

# Contents of a header: addresses of the quantiser's 64 bytes, of the counts of both Huffman tables, and of the scan.
QUANTISER, DC_TABLE, AC_TABLE, SCAN = range(4)

#: Largest height or width of an image [px].
MOST_SIDE = 65535


@njit(**INLINE)
def _two_bytes(at):  # type: ignore[no-untyped-def]
    return (np.int64(load_byte(at)) << 8) | np.int64(load_byte(at + 1))


@njit(**INLINE)
def _sum_of_counts(table):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for length in range(16):
        total += np.int64(load_byte(table + length))
    return total


@njit(**INTERNAL)
def _read_header(begin, end, height, width, quantisers, tables, found):  # type: ignore[no-untyped-def]
    """Read the segments up to the scan and return whether this module can decode it.

    Args:
        begin, end: address of the first byte and address past the last byte.
        height, width: size that the header must state [px].
        quantisers, tables: (4,) and (8,) int64, scratch for addresses by table number.
        found: (4,) int64, receives the addresses (`QUANTISER`, `DC_TABLE`, `AC_TABLE`, `SCAN`).
    """
    quantisers[:] = 0
    tables[:] = 0
    component, quantiser = -1, -1
    if begin + 4 > end or _two_bytes(begin) != 0xFFD8:
        return False
    at = begin + 2
    while at + 4 <= end and load_byte(at) == 0xFF:
        marker, length = load_byte(at + 1), _two_bytes(at + 2)
        body, stop = at + 4, at + 2 + length
        if length < 2 or stop > end:
            return False
        if marker == 0xDB:  # quantisers with 8 bits
            while body + 65 <= stop and load_byte(body) < 4:
                quantisers[load_byte(body)] = body + 1
                body += 65
            if body != stop:
                return False
        elif marker == 0xC4:  # Huffman tables
            while body + 17 <= stop:
                kind, total = np.int64(load_byte(body)), _sum_of_counts(body + 1)
                if (kind & 0xEC) != 0 or total > 256 or body + 17 + total > stop:
                    return False
                tables[(kind >> 4) * 4 + (kind & 3)] = body + 1
                body += 17 + total
            if body != stop:
                return False
        elif marker == 0xC0:  # baseline frame: 8 bits, height and width, one component
            if component >= 0 or length != 11 or load_byte(body) != 8 or load_byte(body + 5) != 1:
                return False
            if _two_bytes(body + 1) != height or _two_bytes(body + 3) != width:
                return False
            sampling = load_byte(body + 7)
            if not (1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4):
                return False
            component, quantiser = np.int64(load_byte(body + 6)), np.int64(load_byte(body + 8))
        elif marker == 0xDA:  # scan: that component, all coefficients, full precision
            if length != 8 or component < 0 or quantiser > 3:
                return False
            if (
                load_byte(body) != 1
                or load_byte(body + 1) != component
                or _two_bytes(body + 3) != 63
                or load_byte(body + 5) != 0
            ):
                return False
            which = np.int64(load_byte(body + 2))
            if (which & 0xCC) != 0:
                return False
            found[QUANTISER] = quantisers[quantiser]
            found[DC_TABLE], found[AC_TABLE] = tables[which >> 4], tables[4 + (which & 15)]
            found[SCAN] = stop
            return found[QUANTISER] != 0 and found[DC_TABLE] != 0 and found[AC_TABLE] != 0
        elif marker != 0xE0 and marker != 0xFE and not 0xE2 <= marker <= 0xEF:
            return False  # E1 may hold an orientation; others are restarts, other scan types, fill bytes
        at = stop
    return False


@njit(**INTERNAL)
def _replace_table(table, kept):  # type: ignore[no-untyped-def]
    """Keep a copy of a table and return whether it differs from the one kept before."""
    size = 16 + _sum_of_counts(table)
    differ = np.uint8(0)
    for n in range(size):
        differ |= load_byte(table + n) ^ load_byte(kept + n)
    if differ == 0:
        return False
    for n in range(size):
        store_byte(kept + n, load_byte(table + n))
    return True


@njit(**INTERNAL)
def _unstuff(at, end, target):  # type: ignore[no-untyped-def]
    """Copy a scan up to the marker that ends the image, without the zero bytes stuffed after bytes of 255.

    Returns:
        Number of bytes of the scan; -1 if it ends with another marker or with none. Up to 8 more bytes may be written.
    """
    out = target
    ones, tops = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    while at + 10 <= end:
        word = load_word(at)
        store_word(out, word)
        if ((~word - ones) & word & tops) == 0:  # no byte of the word is 255
            at += 8
            out += 8
            continue
        while load_byte(at) != 255:
            at += 1
            out += 1
        if load_byte(at + 1) != 0:
            return (out - target) if load_byte(at + 1) == 0xD9 else np.int64(-1)
        at += 2
        out += 1
    while at + 1 < end:
        value = load_byte(at)
        if value == 255:
            if load_byte(at + 1) != 0:
                return (out - target) if load_byte(at + 1) == 0xD9 else np.int64(-1)
            at += 1
        store_byte(out, value)
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
    """Write the pixels of a scan, or part of them, and return the number of its unused bits, below 0 if it was invalid.

    One loop decodes the symbols of a whole row of blocks and detects the end of a block by arithmetic alone. A branch
    at the end of each block would be mispredicted, which costs more than the work of the branch.

    Memory safety: a lookup starts at position 62 or below. It advances by at most two steps of 16, or by one step and
    END. No position exceeds 62 + 16 + END, and zigzag and quantiser extend that far. A position of 64 or above leads,
    through zigzag, to the start of the next block (one more block is allocated than counted). Through quantiser, it
    turns the value into a zero, which is written before the block's own first coefficient.

    Args:
        scan: address of the bytes of the scan, followed by `PADDING` zeros.
        num_bytes: number of bytes of the scan.
        target: address of (height, width) uint8.
        zigzag: address of `ZIGZAG`.
        quantiser: address of int32 in the order of the scan, with zeros after the 64 values.
        dc, ac, ac_singles: addresses of the lookup tables: for the first coefficient of a block, for pairs of the other
            coefficients, and for single ones.
        tables: address of the counts and symbols of both tables.
        last_code, first_symbol: (2, 18) int64 for both tables.
        blocks: address of the coefficients of one row and two more blocks, 64 int16 each; zero on entry and on return.
        lasts: address of int64, one for each of those blocks.
        edge: address of 128 uint8.
    """
    # The upper `count` bits or more of the buffer are still unread; the bytes from `at` on follow them.
    buffer, count = np.uint64(0), np.int64(0)
    at, end = scan, scan + num_bytes
    num_blocks = (width + 7) >> 3
    level = np.int16(0)
    for top in range(0, height, 8):
        number, place, lookup = np.int64(0), np.int64(-1), dc
        while number < num_blocks:
            buffer |= load_word_from_top(at) >> np.uint64(count)
            at += (63 - count) >> 3
            count |= 56
            if at > end + 8:
                return np.int64(-1)
            for _ in range(3):  # 56 bits: two lookups of 11 bits, and a symbol of 16 bits with 15 more
                entry = load_int64(lookup + (np.int64(buffer >> LOOKUP_SHIFT) << 3))
                is_long = entry == 0
                if is_long:
                    which = 0 if place < 0 else 1
                    table = tables + which * TABLE_BYTES
                    entry = long_entry(buffer, table, which == 1, last_code[which], first_symbol[which])
                    if entry == 0:
                        return np.int64(-1)
                first = place + ((entry >> STEPS) & 0xFF)
                if first == 63 and not is_long:  # last coefficient of the block: the next bits belong to another one
                    entry = load_int64(ac_singles + (np.int64(buffer >> LOOKUP_SHIFT) << 3))
                buffer <<= np.uint64(entry & 63)
                count -= entry & 63
                # Write the second value first: if there is none, it has the position of the first and is overwritten.
                place = first + ((entry >> MORE_STEPS) & 0xFF)
                value = np.int32(entry >> SECOND) * load_int32(quantiser + (place << 2))
                block = blocks + (number << 7)
                store_int16(block + (np.int64(load_byte(zigzag + place)) << 1), value)
                value = np.int32((entry << (48 - VALUE)) >> 48) * load_int32(quantiser + (first << 2))
                store_int16(block + (np.int64(load_byte(zigzag + first)) << 1), value)
                store_int64(lasts + (number << 3), place)
                is_complete = place >= 63
                number += np.int64(is_complete)
                lookup = dc if is_complete else ac
                place = np.int64(-1) if is_complete else place
                if is_long or number >= num_blocks:
                    break
        rows = min(8, height - top)
        for left in range(0, width, 16):
            pair = blocks + (left << 4)
            most = np.int64(0)  # last nonzero coefficient of both blocks, along the zigzag
            levels = (np.int32(0), np.int32(0))
            for which in range(2):
                if left + 8 * which < width:
                    last = load_int64(lasts + (left + 8 * which))
                    last = 63 if last == 63 else last - END
                    if not 0 <= last <= 63:
                        return np.int64(-1)
                    most = max(most, last)
                    level = np.int16(level + load_int16(pair + 128 * which))
                    levels = (np.int32(level), levels[1]) if which == 0 else (levels[0], np.int32(level))
            if max(abs(levels[0]), abs(levels[1])) > _MOST_LEVEL:
                return np.int64(-1)
            corner = target + top * width + left
            is_whole = rows == 8 and left + 16 <= width
            to = corner if is_whole else edge
            stride = width if is_whole else np.int64(16)
            if most == 0:
                one, other = flat(levels[0]), flat(levels[1])
                for row in range(8):
                    store_word(to + row * stride, one)
                    store_word(to + row * stride + 8, other)
            elif most <= 9:  # along the zigzag, all of these lie in the upper left 4 x 4
                if transform_4(pair, levels[0], levels[1], to, stride):
                    return np.int64(-1)
            elif transform_8(pair, levels[0], levels[1], to, stride):
                return np.int64(-1)
            clear(pair)
            if not is_whole:
                columns = min(16, width - left)
                for row in range(rows):
                    source, line = edge + 16 * row, corner + row * width
                    for word in range(columns >> 3):
                        store_word(line + 8 * word, load_word(source + 8 * word))
                    for column in range(columns & ~7, columns):
                        store_byte(line + column, load_byte(source + column))
    return (end << 3) - ((at << 3) - count)


@entry(**OPTIONS)
def decode_range(data, starts, sizes, heights, widths, target, offsets, zigzag, unused, begin, end):  # type: ignore[no-untyped-def]
    """Decode the cells from `begin` to `end`, exclusive.

    Args:
        data: address of the encoded bytes; the caller guarantees their extent and that of the target.
        starts, sizes: (B,) int64, position and size of each cell in `data` [bytes].
        heights, widths: (B,) int32, size that each cell must have [px].
        target: address of uint8 pixels.
        offsets: (B,) int64, position in `target` of the first of each cell's `height * width` pixels.
        zigzag: address of `ZIGZAG`.
        unused: (B,) int64, receives the number of bits that the scan of a cell has after its last pixel; below 0 for
            cells that were not decoded, whose pixels are undefined.
    """
    num_bytes, num_columns = np.int64(0), np.int64(0)
    for cell in range(begin, end):
        if 1 <= heights[cell] <= MOST_SIDE and 1 <= widths[cell] <= MOST_SIDE:
            num_bytes = max(num_bytes, sizes[cell])
            num_columns = max(num_columns, np.int64(widths[cell]))
    num_blocks = (num_columns + 7) // 8 + 2
    # Numba frees an array after the last line that names it, so addresses are taken inside the loop.
    copied, scan = np.empty(num_bytes, np.uint8), np.empty(num_bytes + PADDING + 16, np.uint8)
    quantiser = np.zeros(64 + 2 * END, np.int32)
    singles, pairs = np.zeros((2, 1 << LOOKUP_BITS), np.int64), np.zeros((2, 1 << LOOKUP_BITS), np.int64)
    last_code, first_symbol = np.zeros((2, 18), np.int64), np.zeros((2, 18), np.int64)
    kept, is_kept = np.zeros(2 * TABLE_BYTES, np.uint8), np.zeros(2, np.bool_)
    blocks, lasts = np.zeros(64 * num_blocks, np.int16), np.zeros(num_blocks, np.int64)
    edge = np.zeros(128, np.uint8)
    quantisers, tables, found = np.zeros(4, np.int64), np.zeros(8, np.int64), np.zeros(4, np.int64)
    for cell in range(begin, end):
        unused[cell] = -1
        height, width, size = np.int64(heights[cell]), np.int64(widths[cell]), sizes[cell]
        if not (1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE):
            continue
        first = np.int64(copied.ctypes.data)  # of a copy: checked bytes must not change before they are used
        source = np.int64(data + starts[cell])
        for n in range(size):
            store_byte(first + n, load_byte(source + n))
        if not _read_header(first, first + size, height, width, quantisers, tables, found):
            continue
        is_new = False
        for which in range(2):
            table = np.int64(kept.ctypes.data) + which * TABLE_BYTES
            if _replace_table(found[DC_TABLE + which], table) or not is_kept[which]:
                is_kept[which] = derive(table, which == 1, singles[which], last_code[which], first_symbol[which])
                is_new = True
        if is_new:
            for which in range(2):
                pair_up(singles[which], singles[1], pairs[which])
        scan_at = np.int64(scan.ctypes.data)
        scan_size = _unstuff(found[SCAN], first + size, scan_at)
        if scan_size < 0 or not is_kept[0] or not is_kept[1]:
            continue
        scan[scan_size : scan_size + PADDING] = 0
        for place in range(64):
            quantiser[place] = np.int32(load_byte(found[QUANTISER] + place))
        unused[cell] = _decode_scan(
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
        if unused[cell] < 0:
            blocks[: 64 * ((width + 7) // 8 + 2)] = 0
