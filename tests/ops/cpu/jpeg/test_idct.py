"""The inverse transform of two blocks against the cosine transform in float64."""

import numpy as np
import pytest
from numba import njit
from scipy.fft import idctn

from fastcell.ops.cpu.jpeg.idct import clear, flat, transform_4, transform_8


@njit
def _transform(side, blocks, target, stride):
    if side == 4:
        return transform_4(blocks, np.int32(0), np.int32(0), target, stride)
    return transform_8(blocks, np.int32(0), np.int32(0), target, stride)


@njit
def _transform_first(blocks, first, second, target, stride):
    return transform_8(blocks, first, second, target, stride)


@njit
def _clear(blocks):
    clear(blocks)


@njit
def _flat(mean):
    return flat(mean)


@pytest.mark.parametrize("side", [4, 8])
def test_grey_levels_are_those_of_the_cosine_transform(side):
    """At most one off where the exact level is near a half: libjpeg computes with whole numbers."""
    rng = np.random.default_rng(side)
    off = 0
    for _ in range(50):
        blocks, first = np.zeros((2, 8, 8), np.int16), rng.integers(-900, 900, 2)
        blocks[:, :side, :side] = rng.normal(0, 40, (2, side, side)).round()
        blocks[:, 0, 0] = 0  # given by itself
        target = np.full((8, 20), 7, np.uint8)
        assert not _transform_first(
            blocks.ctypes.data, np.int32(first[0]), np.int32(first[1]), target.ctypes.data + 2, 20
        )
        whole = blocks.astype(np.float64)
        whole[:, 0, 0] = first
        exact = np.hstack([idctn(block, norm="ortho") for block in whole]) + 128
        got = target[:, 2:18].astype(float)
        assert np.abs(got - np.clip(exact, 0, 255)).max() < 0.55
        off += (got != np.clip(np.rint(exact), 0, 255)).sum()
        assert (target[:, :2] == 7).all()
        assert (target[:, 18:] == 7).all()
        if side == 4:
            again = np.empty((8, 16), np.uint8)
            blocks[:, 0, 0] = 0
            same = np.empty((8, 16), np.uint8)
            assert not _transform(4, blocks.ctypes.data, again.ctypes.data, 16)
            assert not _transform(8, blocks.ctypes.data, same.ctypes.data, 16)
            np.testing.assert_array_equal(again, same)
    assert off < 0.02 * 50 * 128


def test_values_that_no_picture_has_are_told():
    blocks, target = np.zeros((2, 8, 8), np.int16), np.empty((8, 16), np.uint8)
    blocks[1, 3, :] = 8000
    blocks[1, :, 3] = 8000
    assert _transform(8, blocks.ctypes.data, target.ctypes.data, 16)


def test_two_blocks_are_cleared_and_nothing_beside_them():
    blocks = np.ones(4 * 64, np.int16)
    _clear(blocks[64:].ctypes.data)
    assert blocks.reshape(4, 64).any(1).tolist() == [True, False, False, True]
    assert blocks[:64].all()


@pytest.mark.parametrize(("mean", "level"), [(0, 128), (8, 129), (3, 128), (4, 129), (-2000, 0), (2000, 255)])
def test_a_flat_block_is_eight_times_one_byte(mean, level):
    assert int(_flat(np.int64(mean))) == int.from_bytes(bytes([level]) * 8, "little")
