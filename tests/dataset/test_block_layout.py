"""The bytes of a block are those of the written format."""

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastcell.dataset.block_layout import make_block

CELLS = st.lists(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)), min_size=1, max_size=12)


@given(CELLS, st.integers(0, 2**40))
@settings(max_examples=100)
def test_bytes_of_the_format(cells, first_cell):
    data, start = make_block(cells, first_cell)
    num = len(cells)
    assert data[:32] == b"fastcell" + struct.pack("<IIqQ", 1, num, first_cell, start)
    assert (start % 64, 0 <= start - 32 - 8 * num < 64) == (0, True)
    sides = [cell.shape for cell in cells]
    assert struct.unpack_from(f"<{2 * num}i", data, 32) == (*(side[0] for side in sides), *(side[1] for side in sides))
    assert data[32 + 8 * num : start].strip(b"\0") == b""
    assert data[start:] == b"".join(cell.tobytes() for cell in cells)
