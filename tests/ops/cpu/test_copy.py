"""Ragged cells copied into one piece."""

import numpy as np

from fastcell.ops.cpu.copy import copy_cells


def test_pieces_lie_behind_one_another_and_the_rest_is_left():
    source = np.arange(100, dtype=np.uint8)
    target = np.full(12, 255, np.uint8)
    copy_cells(source.ctypes.data + np.array([40, 0, 7]), np.array([3, 0, 5]), target)
    assert target.tolist() == [40, 41, 42, 7, 8, 9, 10, 11, 255, 255, 255, 255]
    copy_cells(np.empty(0, np.int64), np.empty(0, np.int64), target)
