"""Compiled loops over Fourier transforms of the grids: spectral slope, and the second peak of a displaced copy."""

from __future__ import annotations

import math

import numpy as np

from fastcell.ops.cpu.compiled_loops import OPTIONS, entry
from fastcell.quality.loops.columns import CONTRAST, GHOST, SPECTRAL_SLOPE
from fastcell.quality.loops.grid import SIDE


@entry(**OPTIONS)
def measure_slope(power, edges, out):  # type: ignore[no-untyped-def]
    """Write the slope of ln power over ln frequency, for 2 to 24 periods per frame, averaged over all directions.

    Args:
        power: (n, SIDE, SIDE // 2 + 1) float32, power of the real Fourier transform.
        edges: (n, SIDE, SIDE) float32, written: the full power spectrum, times the squared frequency and a low pass.
        out: (n, F) float32, written in part.
    """
    low, high = 2, 24
    nearest = np.zeros((SIDE, SIDE // 2 + 1), np.int64)
    gain = np.zeros((SIDE, SIDE // 2 + 1), np.float32)
    for y in range(SIDE):
        fy = min(y, SIDE - y)
        for x in range(SIDE // 2 + 1):
            square = float(fy * fy + x * x)
            nearest[y, x] = int(math.sqrt(square) + 0.5)
            gain[y, x] = square * math.exp(-square / 256.0)
    logs = np.zeros(high + 1)
    mean_log, spread = 0.0, 0.0
    for k in range(low, high + 1):
        logs[k] = math.log(float(k))
        mean_log += logs[k] / (high - low + 1)
    for k in range(low, high + 1):
        spread += (logs[k] - mean_log) ** 2
    sums, counts = np.zeros(2 * SIDE), np.zeros(2 * SIDE)
    for b in range(power.shape[0]):
        sums[:] = 0
        counts[:] = 0
        for y in range(SIDE):
            for x in range(SIDE // 2 + 1):
                sums[nearest[y, x]] += power[b, y, x]
                counts[nearest[y, x]] += 1
                value = power[b, y, x] * gain[y, x]
                edges[b, y, x] = value
                edges[b, (SIDE - y) % SIDE, (SIDE - x) % SIDE] = value
        slope = 0.0
        for k in range(low, high + 1):
            slope += (logs[k] - mean_log) * math.log(sums[k] / counts[k] + 1.0) / spread
        out[b, SPECTRAL_SLOPE] = slope


@entry(**OPTIONS)
def measure_ghosts(correlation, out):  # type: ignore[no-untyped-def]
    """Write the highest second peak of the autocorrelation of the edges, as a share of the first peak.

    Only peaks 4 to 28 grid lines away are searched.

    Args:
        correlation: (n, SIDE, SIDE // 2 + 1) complex64 with real values: Fourier transform of the power of the edges.
        out: (n, F) float32, written in part.
    """
    reach = 28
    for b in range(correlation.shape[0]):
        field = correlation[b].real
        best = np.float32(0.0)
        for y in range(-reach, reach + 1):
            for x in range(reach + 1):
                square = y * y + x * x
                value = field[y % SIDE, x]
                if value <= best or square < 16 or square > reach * reach:
                    continue
                peak = True
                for v in range(y - 1, y + 2):
                    for u in range(x - 1, x + 2):
                        peak &= value >= (field[v % SIDE, u] if u >= 0 else field[-v % SIDE, -u])
                if peak:
                    best = value
        out[b, GHOST] = best / field[0, 0] if out[b, CONTRAST] >= 1 else 0.0
