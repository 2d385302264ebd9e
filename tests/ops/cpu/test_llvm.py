"""Intrinsics: each does what its name says, on values that show the order of bytes and bits."""

import numpy as np
import pytest
from numba import njit

from fastcell.ops.cpu import llvm


@njit
def _bits_of_floats(value, bits):
    return llvm.float_bits(value), llvm.bits_float(bits)


def test_bits_of_a_float():
    assert _bits_of_floats(np.float32(1.5), np.int32(-0x40000000)) == (0x3FC00000, -2.0)


@njit
def _words(pixels):
    word, pair = llvm.join_words(pixels[1], pixels[2]), llvm.pair_at(pixels, 1)
    fields = [llvm.field(word, 0, 2), llvm.field(word, 1, 2)]
    return word == pair, word, fields, llvm.bit_width(pixels[0]), llvm.grey_unit(pixels)


@pytest.mark.parametrize(("dtype", "unit"), [(np.uint8, 1.0), (np.uint16, 1 / 257)])
def test_two_pixels_in_a_word(dtype, unit):
    high = np.iinfo(dtype).max
    pixels = np.array([7, 3, high, 9], dtype)
    bits = 8 * pixels.itemsize
    same, word, fields, width, grey = _words(pixels)
    assert same
    assert int(word) == 3 | high << bits
    assert fields == [3.0, high]
    assert width == bits
    assert grey == np.float32(unit)


@njit
def _parts(address, num_bytes, parts):
    ahead = llvm.in_parts(address, num_bytes, parts)
    for part in range(parts):
        llvm.prefetch_part(ahead, part)
    return ahead


def test_parts_of_the_next_cell_are_whole_cache_lines_and_any_address_will_do():
    assert _parts(64, 1000, 4) == (64, 1064, 256)
    assert _parts(0, 10, 128) == (0, 10, 64)
    assert _parts(1 << 46, 1 << 30, 16) == (1 << 46, (1 << 46) + llvm.MOST_AHEAD, llvm.MOST_AHEAD // 16)


@njit
def _read(address):
    return (
        llvm.load_byte(address),
        llvm.load_int16(address),
        llvm.load_int32(address),
        llvm.load_int64(address),
        llvm.load_word(address),
        llvm.load_word_from_top(address),
        llvm.array_at(address, 3, np.empty(0, np.uint8)).sum(),
    )


def test_loads_at_an_odd_address():
    memory = np.array([0, 0xF1, 0xF2, 3, 0xF4, 5, 6, 7, 0xF8, 0], np.uint8)
    data = memory[1:9].tobytes()
    signed = [int.from_bytes(data[:size], "little", signed=True) for size in (2, 4, 8)]
    want = (0xF1, *signed, int.from_bytes(data, "little"), int.from_bytes(data, "big"), 0xF1 + 0xF2 + 3)
    assert _read(memory.ctypes.data + 1) == want


@njit
def _write(address):
    llvm.store_byte(address, np.uint8(0x11))
    llvm.store_int16(address + 1, np.int32(0x7F2233))
    llvm.store_word(address + 3, np.uint64(0x8877665544332211))
    llvm.store_int64(address + 11, np.int64(-2))


def test_stores_write_their_bytes_and_no_more():
    memory = np.full(21, 0xAA, np.uint8)
    _write(memory.ctypes.data + 1)
    want = bytes([0xAA, 0x11, 0x33, 0x22, *range(0x11, 0x89, 0x11), 0xFE, *[0xFF] * 7, 0xAA])
    assert memory.tobytes() == want
