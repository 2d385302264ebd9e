"""Taps of the triangle and of the Gaussian, against numpy and SciPy."""

import math

import numpy as np
import pytest
from numba import njit
from scipy.ndimage import gaussian_filter

from fastcell.ops.cpu.filter import _gaussian_taps, _mirror, _triangle_taps, blur


@njit
def _gauss(sigma):
    return _gaussian_taps(sigma)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 1.4, 16.0])
def test_gaussian_taps_sum_to_one_and_have_an_odd_side(sigma):
    weight, radius = _gauss(sigma), math.ceil(3 * sigma)
    want = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    want /= want[0] + 2 * want[1:].sum()
    np.testing.assert_allclose(weight[: radius + 1], want, rtol=1e-6)
    assert not weight[radius + 1 :].any()
    assert len(weight) % 2 == 0
    assert len(weight) >= 4


@njit
def _mirrored(places, size):
    return [_mirror(place, size) for place in places]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_mirror_is_numpys_reflection(size):
    want = np.pad(np.arange(size), 20, mode="reflect")
    assert _mirrored(np.arange(-20, size + 20), size) == want.tolist()


@njit
def _blurred(image, sigma, lines):
    blur(image, sigma, lines)


@pytest.mark.parametrize("size", [1, 5, 40])
def test_blur_is_scipys(size):
    image = np.random.default_rng(0).uniform(0, 255, (size, size)).astype(np.float32)
    want = gaussian_filter(image.astype(np.float64), 2.3, mode="mirror", radius=math.ceil(3 * 2.3))
    _blurred(image, 2.3, np.empty((size, size), np.float32))
    np.testing.assert_allclose(image, want, atol=2e-3)


@njit
def _triangle(scale, offset, length, clamp, first, count, weight):
    _triangle_taps(scale, offset, length, clamp, first.shape[0], first, count, weight)


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize(("scale", "offset"), [(3.0, 0.0), (2.4, -7.0), (-1.6, 20.0), (0.5, 1.0)])
def test_triangle_taps_are_shares_of_a_triangle(scale, offset, clamp):
    length, size, reach = 21, 9, max(abs(scale), 1.0)
    first, count = np.empty(size, np.int64), np.empty(size, np.int64)
    weight = np.zeros((size, int(2 * reach) + 4), np.float32)
    _triangle(scale, offset, length, clamp, first, count, weight)
    for x in range(size):
        centre = scale * (x + 0.5) + offset
        if clamp:
            centre = min(max(centre, 0.5), length - 0.5)
        places = np.arange(-60, 90)
        share = np.maximum(0, 1 - np.abs(places + 0.5 - centre) / reach)
        inside = (places >= 0) & (places < length)
        share /= share[inside].sum() if clamp else share.sum()
        got = np.zeros(len(places))
        got[60 + first[x] : 60 + first[x] + count[x]] = weight[x, : count[x]]
        np.testing.assert_allclose(got, np.where(inside, share, 0), atol=1e-6)
        assert weight[x, -1] == pytest.approx(share[~inside].sum() if not clamp else 0.0, abs=1e-6)
