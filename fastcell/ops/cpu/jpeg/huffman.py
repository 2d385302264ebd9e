"""Huffman codes of a baseline JPEG as tables: one lookup gives up to two symbols with their runs, sizes and values."""

from __future__ import annotations

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import INLINE, INTERNAL
from fastcell.ops.cpu.llvm import load_byte

# Bits used per table lookup; few codes are longer together with their value.
LOOKUP_BITS = 11
LOOKUP_SHIFT = np.uint64(64 - LOOKUP_BITS)

# An entry holds the number of bits it consumes, the steps along the zigzag to the first coefficient and from there to
# a second one, and both values. A step of END marks a complete block and leads to its last position + END.
END = 128
STEPS, MORE_STEPS, VALUE, SECOND = 8, 16, 24, 48

# Counts by code length, then symbols.
TABLE_BYTES = 16 + 256


@njit(**INTERNAL)
def derive(table, is_ac, singles, last_code, first_symbol):  # type: ignore[no-untyped-def]
    """Derive the lookup table of a Huffman code, and return False if the table is not valid in a baseline scan.

    Args:
        table: address of the number of codes of each length, 1 to 16, followed by the symbols.
        is_ac: the table is for the coefficients after the first one of a block.
        singles: (2 ** LOOKUP_BITS,) int64, receives the single-value entry for the next bits; 0 if they hold no
            complete one.
        last_code: (18,) int64, receives for each length, from 1 on, the code after its last one, left-aligned in 16
            bits, then a value that no code reaches.
        first_symbol: (18,) int64, receives for each length the index of its first symbol minus its first code.
    """
    singles[:] = 0
    code, number = 0, 0
    for length in range(1, 17):
        count = np.int64(load_byte(table + length - 1))
        if code + count >= (1 << length) or number + count > 256:  # a code of only ones is not allowed
            return False
        first_symbol[length] = number - code
        for _ in range(count):
            symbol = np.int64(load_byte(table + 16 + number))
            if not is_ac and symbol > 11:
                return False
            size = symbol & 15
            steps = _steps(symbol, is_ac)
            bits = length + size
            if bits <= LOOKUP_BITS and steps > 0:
                spare = LOOKUP_BITS - bits
                for extra in range(1 << size):
                    entry = bits | (steps << STEPS) | ((_extended(extra, size) & 0xFFFF) << VALUE)
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
    """Return the steps of a symbol, or 0 for a symbol that is not valid in a baseline scan."""
    if not is_ac:
        return 1
    size, run = symbol & 15, symbol >> 4
    if size == 0 and run < 15:
        return END if run == 0 else 0
    return run + 1


@njit(**INLINE)
def _extended(extra, size):  # type: ignore[no-untyped-def]
    """Return the value of `size` bits (procedure EXTEND of T.81)."""
    if size == 0:
        return np.int64(0)
    return np.int64(extra) if extra >= (1 << (size - 1)) else np.int64(extra) + 1 - (1 << size)


@njit(**INTERNAL)
def pair_up(singles, behind, pairs):  # type: ignore[no-untyped-def]
    """Combine each single-value entry with the entry that follows it, if both fit into the lookup bits."""
    for place in range(1 << LOOKUP_BITS):
        entry = singles[place]
        bits = entry & 0xFF
        if entry != 0 and ((entry >> STEPS) & 0xFF) < END:
            second = behind[(place << bits) & ((1 << LOOKUP_BITS) - 1)]
            more = second & 0xFF
            if second != 0 and bits + more <= LOOKUP_BITS:
                steps, value = (second >> STEPS) & 0xFF, (second >> VALUE) & 0xFFFF
                entry += more | (steps << MORE_STEPS) | (value << SECOND)
        pairs[place] = entry


@njit(**INTERNAL)
def long_entry(buffer, table, is_ac, last_code, first_symbol):  # type: ignore[no-untyped-def]
    """Return the single-value entry for the upper bits of the buffer, of any code length; 0 if they are not a code."""
    bits = np.int64(buffer >> np.uint64(48))
    length = 1
    while bits >= last_code[length]:
        length += 1
    if length > 16:
        return np.int64(0)
    symbol = np.int64(load_byte(table + 16 + (bits >> (16 - length)) + first_symbol[length]))
    size = symbol & 15
    steps = _steps(symbol, is_ac)
    if steps == 0:
        return np.int64(0)
    extra = np.int64((buffer << np.uint64(length)) >> np.uint64(64 - size)) if size > 0 else np.int64(0)
    return (length + size) | (steps << STEPS) | ((_extended(extra, size) & 0xFFFF) << VALUE)
