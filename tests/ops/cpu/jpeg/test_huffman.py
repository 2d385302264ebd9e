"""Lookups of a Huffman code against a search for its codes, one bit after the other."""

from __future__ import annotations

import numpy as np
from numba import njit

from fastcell.ops.cpu.jpeg.huffman import (
    END,
    LOOKUP_BITS,
    MORE_STEPS,
    SECOND,
    STEPS,
    TABLE_BYTES,
    VALUE,
    derive,
    long_entry,
    pair_up,
)

COUNTS = [0, 2, 1, 1, 2, 0, 1, 0, 0, 0, 0, 3, 0, 0, 0, 2]  # codes by length; the last are longer than a look
SYMBOLS = [0x01, 0x00, 0x02, 0x11, 0x21, 0x03, 0xF0, 0x12, 0x04, 0x31, 0x05, 0x41]


def table_of(counts: list[int], symbols: list[int]) -> np.ndarray:
    table = np.zeros(TABLE_BYTES, np.uint8)
    table[:16], table[16 : 16 + len(symbols)] = counts, symbols
    return table


def codes() -> dict[str, int]:
    found, code, number = {}, 0, 0
    for length, count in enumerate(COUNTS, 1):
        for _ in range(count):
            found[f"{code:0{length}b}"] = SYMBOLS[number]
            code, number = code + 1, number + 1
        code <<= 1
    return found


def first_symbol(bits: str) -> tuple[int, int, int] | None:
    """Bits, steps and value of the symbol at the start of `bits`; None if there is none whole."""
    for length in range(1, 17):
        symbol = codes().get(bits[:length])
        if symbol is None:
            continue
        run, size = symbol >> 4, symbol & 15
        extra = bits[length : length + size]
        if len(extra) < size:
            return None
        value = 0 if size == 0 else int(extra, 2) if extra[0] == "1" else int(extra, 2) + 1 - (1 << size)
        return length + size, END if symbol == 0 else run + 1, value
    return None


def signed(bits: int) -> int:
    return (bits & 0xFFFF) - ((bits & 0x8000) << 1)


@njit
def _derive(table, is_ac, singles, last_code, first_symbol):
    return derive(table, is_ac, singles, last_code, first_symbol)


@njit
def _pair_up(singles, behind, pairs):
    pair_up(singles, behind, pairs)


@njit
def _long_entry(buffer, table, is_ac, last_code, first_symbol):
    return long_entry(buffer, table, is_ac, last_code, first_symbol)


def tables() -> tuple[np.ndarray, ...]:
    table, singles = table_of(COUNTS, SYMBOLS), np.ones(1 << LOOKUP_BITS, np.int64)
    last_code, first = np.zeros(18, np.int64), np.zeros(18, np.int64)
    assert _derive(table.ctypes.data, True, singles, last_code, first)
    return table, singles, last_code, first


def test_a_look_gives_one_symbol_or_two():
    _, singles, _, _ = tables()
    pairs = np.empty_like(singles)
    _pair_up(singles, singles, pairs)
    twice = 0
    for place in range(0, 1 << LOOKUP_BITS, 7):
        bits = f"{place:0{LOOKUP_BITS}b}"
        want = first_symbol(bits)
        entry = int(singles[place])
        if want is None:
            assert entry == pairs[place] == 0
            continue
        assert (entry & 0xFF, (entry >> STEPS) & 0xFF, signed(entry >> VALUE)) == want
        second = first_symbol(bits[want[0] :]) if want[1] < END else None
        both = int(pairs[place])
        if second is None:
            assert both == entry
            continue
        twice += 1
        assert both & 0xFF == want[0] + second[0]
        assert ((both >> MORE_STEPS) & 0xFF, signed(both >> SECOND)) == second[1:]
    assert twice > 50


def test_codes_longer_than_a_look():
    table, _, last_code, first = tables()
    for code, symbol in codes().items():
        bits = (code + "1011001110001111" * 4)[:64]
        entry = int(_long_entry(np.uint64(int(bits, 2)), table.ctypes.data, True, last_code, first))
        assert (entry & 0xFF, (entry >> STEPS) & 0xFF, signed(entry >> VALUE)) == first_symbol(bits), hex(symbol)
    assert _long_entry(np.uint64(0xFFFFFFFFFFFFFFFF), table.ctypes.data, True, last_code, first) == 0


def test_counts_that_are_no_code_are_refused():
    spare = np.empty(1 << LOOKUP_BITS, np.int64), np.empty(18, np.int64), np.empty(18, np.int64)
    for counts in ([2, *[0] * 15], [0, 4, *[0] * 14], [0, 3, 2, *[0] * 13]):
        table = table_of(counts, [1] * sum(counts))
        assert not _derive(table.ctypes.data, True, *spare)
    table = table_of([1, *[0] * 15], [12])  # no difference of first coefficients has 12 bits
    assert not _derive(table.ctypes.data, False, *spare)
