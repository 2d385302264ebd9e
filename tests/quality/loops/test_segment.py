"""Masks of 64 words of 64 bits, against SciPy."""

import numpy as np
import pytest
from numba import njit
from scipy import ndimage

from fastcell.quality.loops.grid import SIDE
from fastcell.quality.loops.segment import (
    ALL,
    MIN_AREA,
    NONE,
    _dilate,
    _fill_holes,
    count_bits,
    erode,
    first_bit,
    last_bit,
    split_objects,
)

CROSS, SQUARE = ndimage.generate_binary_structure(2, 1), np.ones((3, 3), bool)


def words(image):
    return np.packbits(image, axis=1, bitorder="little").view(np.uint64)[:, 0].copy()


def bits(mask):
    return np.unpackbits(mask[..., None].view(np.uint8), axis=-1, bitorder="little").astype(bool)


def blobs(seed):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(SIDE, SIDE)), 1.5) > 0.1


@njit
def _places(word):
    return count_bits(word), first_bit(word), last_bit(word)


@njit
def _grow(mask, out, diagonal):
    _dilate(mask, out, diagonal)


@njit
def _shrink(mask, out, outside, diagonal):
    erode(mask, out, outside, diagonal)


@njit
def _fill(mask):
    _fill_holes(mask)


@njit
def _split(mask, objects, areas):
    return split_objects(mask, objects, areas)


@pytest.mark.parametrize("word", [1, 1 << 63, (1 << 64) - 1, 0x00F0_0000_1000_0200])
def test_bits_of_a_word(word):
    text = f"{word:064b}"[::-1]
    assert _places(np.uint64(word)) == (text.count("1"), text.index("1"), text.rindex("1"))


@pytest.mark.parametrize("diagonal", [False, True])
def test_dilation_and_erosion_are_scipys(diagonal):
    image, out = blobs(0), np.empty(SIDE, np.uint64)
    structure = SQUARE if diagonal else CROSS
    _grow(words(image), out, diagonal)
    np.testing.assert_array_equal(bits(out), ndimage.binary_dilation(image, structure))
    for outside, value in ((NONE, 0), (ALL, 1)):
        _shrink(words(image), out, outside, diagonal)
        np.testing.assert_array_equal(bits(out), ndimage.binary_erosion(image, structure, border_value=value))


def test_holes_are_filled_as_scipy_fills_them():
    mask = words(blobs(1))
    _fill(mask)
    np.testing.assert_array_equal(bits(mask), ndimage.binary_fill_holes(blobs(1)))


def test_objects_are_scipys_of_some_size_the_largest_first():
    image = blobs(2)
    labels, num = ndimage.label(image, SQUARE)
    sizes = ndimage.sum_labels(image, labels, range(1, num + 1)).astype(int)
    most = SIDE * SIDE // MIN_AREA + 1
    mask, objects, areas = words(image), np.empty((most, SIDE), np.uint64), np.zeros(most, np.int32)
    found = _split(mask, objects, areas)
    assert sorted(areas[:found]) == sorted(sizes[sizes >= MIN_AREA])
    assert areas[0] == sizes.max()
    np.testing.assert_array_equal(bits(mask), np.isin(labels, 1 + np.flatnonzero(sizes >= MIN_AREA)))
    for part, area in zip(objects[:found], areas[:found], strict=True):
        inside = bits(part)
        assert inside.sum() == area
        assert len(np.unique(labels[inside])) == 1
