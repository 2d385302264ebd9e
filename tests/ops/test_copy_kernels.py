"""The compiled copy of ragged cells."""

import numpy as np

from fastcell.ops.cpu.copy import copy_cells


def test_pieces_lie_one_behind_the_other():
    rng = np.random.default_rng(0)
    cells = [rng.integers(0, 256, size).astype(np.uint8) for size in (5, 0, 1000, 1)]
    addresses = np.array([cell.ctypes.data for cell in cells])
    sizes = np.array([cell.size for cell in cells])
    target = np.full(1010, 7, np.uint8)
    copy_cells(addresses, sizes, target)
    assert np.array_equal(target[:1006], np.concatenate(cells))
    assert (target[1006:] == 7).all()
