"""Shift and factor of the three modes, against float64."""

import math

import numpy as np
import pytest
from numba import njit

from fastcell.ops.constants import EPS, MODES
from fastcell.ops.cpu.normalize import DIVIDE, STANDARDIZE, SUBTRACT, SUM_RUN, gain_and_shift, normalize_images


@njit
def _of_mean(mean, mode):
    return gain_and_shift(mean, mode, 1e-6)


def test_modes_have_the_numbers_of_their_names():
    assert [MODES[number] for number in (DIVIDE, SUBTRACT, STANDARDIZE)] == ["divide", "subtract", "standardize"]


def test_a_mean_gives_factor_and_subtrahend():
    assert _of_mean(4.0, DIVIDE) == (0.25, 0.0)
    assert _of_mean(4.0, SUBTRACT) == (1.0, 4.0)
    assert _of_mean(4.0, STANDARDIZE) == (1.0, 0.0)
    assert _of_mean(0.0, DIVIDE)[0] == pytest.approx(1e6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("count", [1, 2, SUM_RUN - 1, SUM_RUN, 3 * SUM_RUN + 5])
def test_images_agree_with_float64(count, dtype):
    rows = np.random.default_rng(count).integers(0, 256, (3, count)).astype(dtype)
    rows[1] = 200  # constant
    exact = rows.astype(np.float64)
    mean, deviation = exact.mean(1, keepdims=True), exact.std(1, keepdims=True)
    for mode, want in (
        (DIVIDE, exact / np.maximum(mean, EPS)),
        (SUBTRACT, exact - mean),
        (STANDARDIZE, (exact - mean) / np.maximum(deviation, EPS)),
    ):
        out = np.empty(rows.shape, np.float32)
        normalize_images(rows, mode, EPS, out)
        np.testing.assert_allclose(out, want, rtol=0, atol=1e-5 * max(1.0, math.ceil(np.abs(want).max())))
    if dtype == np.float32:
        normalize_images(rows, STANDARDIZE, EPS, rows)  # in place
        np.testing.assert_array_equal(rows, out)
