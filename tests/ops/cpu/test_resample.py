"""Tables of two taps per axis, against interpolation in float64."""

import numpy as np
import pytest
from numba import njit

from fastcell.ops.cpu.resample import _bilinear_taps, to_q32


@njit
def _taps(scale, offset, length, clamp, low, weights):
    _bilinear_taps(scale, offset, length, clamp, True, low.shape[0], low, weights[0], weights[1], weights[2])


@njit
def _fixed(value):
    return to_q32(value)


def test_fixed_point_rounds_to_even():
    assert (_fixed(1.5), _fixed(-0.25), _fixed(0.5 / 2**32), _fixed(1.5 / 2**32)) == (3 << 31, -(1 << 30), 0, 2)


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize(("scale", "offset"), [(0.3, -2.0), (1.0, 0.0), (-1.7, 11.0), (0.21, 0.4)])
def test_taps_interpolate_a_line(scale, offset, length, clamp):
    line, fill, size = np.random.default_rng(0).uniform(0, 255, length), 40.0, 30
    low, weights = np.empty(size, np.uint32), np.empty((3, size), np.float32)
    _taps(scale, offset, length, clamp, low, weights)
    high = np.minimum(low + 1, length - 1)
    assert (weights[1] == 0).all() or length > 1
    got = weights[0] * line[low] + weights[1] * line[high] + weights[2] * fill
    places = scale * (np.arange(size) + 0.5) + offset - 0.5
    ends = (line[:1], line[-1:]) if clamp else ([fill], [fill])
    padded = np.r_[ends[0], line, ends[1]]
    np.testing.assert_allclose(got, np.interp(places, np.arange(-1, length + 1), padded), atol=2e-4)
