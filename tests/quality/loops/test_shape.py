"""Shapes of objects on the grid, against closed forms."""

import numpy as np
import pytest
from numba import njit

from fastcell.quality.loops.grid import SIDE
from fastcell.quality.loops.shape import _border_contact, _box, _elongation, _flat_side, _neck, _solidity

Y, X = np.mgrid[:SIDE, :SIDE]


def words(image):
    return np.packbits(image, axis=1, bitorder="little").view(np.uint64)[:, 0].copy()


@njit
def _shape(part, area):
    top, bottom, left, right = _box(part)
    layers = np.empty((SIDE, SIDE), np.uint64)
    return (
        (top, bottom, left, right),
        _flat_side(part, top, bottom, left, right),
        _solidity(part, area, top, bottom),
        _elongation(part, area, top, bottom),
        _neck(part, top, layers),
        _border_contact(part),
    )


def measured(image):
    return _shape(words(image), int(image.sum()))


def test_a_rectangle():
    box, flat, solidity, elongation, neck, contact = measured((Y >= 10) & (Y < 20) & (X >= 0) & (X < 40))
    assert box == (10, 19, 0, 39)
    assert (flat, solidity, neck) == (1.0, pytest.approx(1.0), 0.0)
    assert elongation == pytest.approx(40 / 10)
    assert contact == 10 / SIDE


def test_an_ellipse():
    _, flat, solidity, elongation, neck, contact = measured(((Y - 31.5) / 24) ** 2 + ((X - 31.5) / 12) ** 2 <= 1)
    assert elongation == pytest.approx(2.0, rel=0.03)
    assert solidity > 0.93
    assert flat < 0.5
    assert (neck, contact) == (0.0, 0.0)


def test_two_discs_that_touch_have_a_neck():
    image = ((Y - 31.5) ** 2 + (X - 18) ** 2 <= 144) | ((Y - 31.5) ** 2 + (X - 43) ** 2 <= 144)
    _, _, solidity, _, neck, _ = measured(image)
    assert neck > 0.5
    assert solidity < 0.95
