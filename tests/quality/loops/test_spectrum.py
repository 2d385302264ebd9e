"""Spectral slope and second peaks of made spectra."""

import numpy as np
import pytest

from fastcell.quality.features import FEATURES
from fastcell.quality.loops.columns import CONTRAST, GHOST, SPECTRAL_SLOPE
from fastcell.quality.loops.grid import SIDE
from fastcell.quality.loops.spectrum import measure_ghosts, measure_slope


@pytest.mark.parametrize("slope", [-3.0, -1.0, 0.0])
def test_slope_of_a_power_law(slope):
    row, column = np.minimum(np.arange(SIDE), SIDE - np.arange(SIDE)), np.arange(SIDE // 2 + 1)
    frequency = np.maximum(np.rint(np.hypot(row[:, None], column[None])), 1.0)
    power = (1e9 * frequency**slope).astype(np.float32)[None]
    out, edges = np.zeros((1, len(FEATURES)), np.float32), np.empty((1, SIDE, SIDE), np.float32)
    measure_slope(power, edges, out)
    assert out[0, SPECTRAL_SLOPE] == pytest.approx(slope, abs=1e-4)


def test_highest_second_peak():
    correlation = np.zeros((2, SIDE, SIDE // 2 + 1), np.complex64)
    correlation[:, 0, 0] = 100
    correlation[:, 5, 7], correlation[:, 2, 2], correlation[:, 40, 3] = 30, 60, 20  # (2, 2) is too near
    out = np.zeros((2, len(FEATURES)), np.float32)
    out[0, CONTRAST] = 9.0  # the second cell has none
    measure_ghosts(correlation, out)
    np.testing.assert_allclose(out[:, GHOST], [0.3, 0.0])
