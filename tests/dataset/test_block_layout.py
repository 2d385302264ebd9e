"""A block comes back exactly, its bytes are those of the written format, and damage is named."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastcell.dataset.block_layout import make_block, read_block
from fastcell.errors import DataError

CELLS = st.lists(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)), min_size=1, max_size=12)


def payload(data):
    return np.frombuffer(data, np.uint8)


@given(CELLS, st.integers(0, 2**40))
@settings(max_examples=100)
def test_round_trip(cells, first_cell):
    data, start = make_block(cells, first_cell)
    block = read_block(payload(data))
    assert start % 64 == 0
    assert len(data) == start + sum(cell.size for cell in cells)
    np.testing.assert_array_equal(block.cell_ids, first_cell + np.arange(len(cells)))
    for cell, offset, height, width in zip(cells, block.offsets, block.heights, block.widths, strict=True):
        assert (height, width) == cell.shape
        np.testing.assert_array_equal(block.pixels[offset : offset + height * width].reshape(height, width), cell)


def test_pixels_are_a_view():
    data = payload(make_block([np.ones((3, 4), np.uint8)])[0])
    assert np.shares_memory(read_block(data).pixels, data)


def test_bytes_of_the_format():
    data, start = make_block([np.full((2, 3), 7, np.uint8), np.full((1, 2), 9, np.uint8)], first_cell=258)
    head = b"fastcell" + struct.pack("<IIqQ", 1, 2, 258, 64) + struct.pack("<4i", 2, 1, 3, 2)
    assert start == 64
    assert data == head.ljust(64, b"\0") + b"\7" * 6 + b"\x09" * 2


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:20],
        lambda data: b"",
        lambda data: b"F" + data[1:],
        lambda data: data[:8] + struct.pack("<I", 2) + data[12:],
        lambda data: data[:12] + struct.pack("<I", 0) + data[16:],
        lambda data: data[:12] + struct.pack("<I", 2**31) + data[16:],
        lambda data: data[:24] + struct.pack("<Q", 2**63) + data[32:],
        lambda data: data[:24] + struct.pack("<Q", 8) + data[32:],
        lambda data: data[:32] + struct.pack("<i", -2) + data[36:],
        lambda data: data[:32] + struct.pack("<i", 4) + data[36:],
    ],
)
def test_damage_is_named(change):
    data = make_block([np.full((2, 3), 7, np.uint8), np.full((1, 2), 9, np.uint8)])[0]
    read_block(payload(data))
    with pytest.raises(DataError, match="not a block of cells of version 1"):
        read_block(payload(change(data)))


def test_wrong_array_is_refused():
    with pytest.raises(DataError, match="one row of uint8, got int32 of 2 axes"):
        read_block(np.zeros((2, 2), np.int32))


def test_sizes_whose_sum_wraps_around_are_damage():
    side = 1 << 31 - 1  # four cells of 2^60 pixels, sixteen times: 2^64 is 0 in 64 bits
    sides = np.full(17, side, "<i4")
    sides[-1] = 2
    start = 192
    head = struct.pack("<8sIIqQ", b"fastcell", 1, 17, 0, start) + sides.tobytes() + sides.tobytes()
    with np.errstate(over="ignore"):
        assert (sides.astype(np.int64) ** 2).sum() == 4  # what the payload holds
    with pytest.raises(DataError, match="a cell of 1152921504606846976 pixels in 196 bytes"):
        read_block(payload(head.ljust(start, b"\0") + bytes(4)))


@pytest.mark.parametrize("first_cell", [-1, 2**63 - 1])
def test_cell_ids_that_cannot_be_are_damage(first_cell):
    data, _ = make_block([np.ones((2, 2), np.uint8)] * 2)
    with pytest.raises(DataError, match="first cell"):
        read_block(payload(data[:16] + struct.pack("<q", first_cell) + data[24:]))
