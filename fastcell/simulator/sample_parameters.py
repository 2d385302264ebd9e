"""Draw the parameters of synthetic cells: counter-based random numbers with one stream per cell, in numba loops."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from fastcell.ops.cpu.compiled_loops import entry
from fastcell.simulator.parameter_columns import F

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True)
def _mix(value: np.uint64) -> np.uint64:
    """Apply the finaliser of SplitMix64 (Steele et al. 2014, doi 10.1145/2714064.2660195)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(nogil=True)
def _uniform(state: npt.NDArray[np.uint64]) -> float:
    """Return the next number in [0, 1) of a SplitMix64 stream."""
    state[0] += _GOLDEN
    return (_mix(state[0]) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(nogil=True)
def _normal(state: npt.NDArray[np.uint64]) -> float:
    """Return a standard normal number; values beyond 3 are drawn again."""
    while True:
        u, v = _uniform(state), _uniform(state)
        z = math.sqrt(-2.0 * math.log(1.0 - u)) * math.cos(2.0 * math.pi * v)
        if abs(z) <= 3.0:
            return z


@entry(nogil=True)
def draw_rows(
    indices: npt.NDArray[np.int64],
    seed: np.uint64,
    defect_share: float,
    upper: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    relief: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.float64],
    spreads: npt.NDArray[np.float64],
    optics: npt.NDArray[np.float64],
    optic_spreads: npt.NDArray[np.float64],
    limits: npt.NDArray[np.float64],
    um_to_px: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float64],
) -> None:
    """Fill `rows` with the parameters of cells, using one stream of random numbers per cell.

    Args:
        indices: (n,) int64, numbers of the cells.
        seed: uint64.
        defect_share: share of frames with a defect, 0 to 1.
        upper: (R,) float64, cumulative shares of the recordings.
        labels: (R,) int64, class of each recording.
        relief: (R,) float64, 1 in collection 1, else 0.
        offsets: (R, 8) float64, means of the morphology.
        spreads: (K, 8) float64, spreads within a class.
        optics: (R, 11) float64, means of the optics.
        optic_spreads: (R, 11) float64, spreads within a recording.
        limits: (4,) float64: smallest height and width, largest height and width, pixels.
        um_to_px: (2,) float64, pixels per micrometre along x and y.
        rows: (n, len(F)) float64, zeros; output.
    """
    state = np.empty(1, np.uint64)
    base = _mix(np.uint64(seed) ^ np.uint64(0x5851F42D4C957F2D))
    for n in range(len(indices)):
        index = np.uint64(indices[n])
        row = rows[n]
        # A Weyl sequence distributes the cells over classes and recordings in proportion, for any number of cells.
        place = ((base + index * _GOLDEN) >> np.uint64(11)) * (1.0 / 9007199254740992.0)
        rec = min(np.searchsorted(upper, place, side="right"), len(upper) - 1)
        state[0] = _mix(base + _mix(index + np.uint64(1)))
        label = labels[rec]
        row[F.class_index], row[F.recording], row[F.relief] = label, rec, relief[rec]
        spoiled, kind = _uniform(state) < defect_share, 1 + int(_uniform(state) * 5)
        defect = kind if spoiled else 0
        row[F.defect] = defect

        latent = np.empty(8)
        for k in range(8):
            latent[k] = offsets[rec, k] + spreads[label, k] * _normal(state)
        optic = np.empty(optics.shape[1])
        for k in range(optics.shape[1]):
            optic[k] = optics[rec, k] + optic_spreads[rec, k] * _normal(state)
        bright = relief[rec] < 0.5

        row[F.diameter_um] = math.exp(latent[0])
        row[F.deformation] = latent[1]
        irregularity = math.exp(latent[2])
        row[F.irregularity] = irregularity
        row[F.nucleus_ratio] = min(max(latent[3], 0.2), 0.95)
        row[F.nucleus_contrast] = latent[4]
        row[F.density] = max(latent[5], 0.02)
        row[F.granularity] = math.exp(latent[6])
        row[F.rim_width] = max(latent[7], 0.08)

        cell_width = row[F.diameter_um] * um_to_px[0] * math.exp(-latent[1] / 2)
        cell_height = row[F.diameter_um] * um_to_px[1] * math.exp(latent[1] / 2)
        # Height and width of a frame vary together, so that the shape of the cell in the square hardly changes. One
        # frame in twelve is cut much tighter or wider than the rest, which gives the long tails of the real
        # distribution.
        tail = 4.0 if _uniform(state) < 1 / 12 else 1.0
        zoom = tail * (optic[0] - optics[rec, 0])
        own = optic[1] - optics[rec, 1]
        height = math.exp(optics[rec, 0] + zoom)
        width = math.exp(optics[rec, 1] + 0.9 * zoom + 0.4 * own)
        height = max(height, cell_height / 0.70)
        width = max(width, cell_width / 0.60)
        row[F.height] = int(min(max(height, limits[0]), limits[2]) + 0.5)
        row[F.width] = int(min(max(width, limits[1]), limits[3]) + 0.5)
        row[F.half_width] = 0.5 * cell_width / row[F.width]
        row[F.half_height] = 0.5 * cell_height / row[F.height]
        row[F.center_x] = 0.5 + 0.025 * _normal(state)
        row[F.center_y] = (0.44 if bright else 0.49) + 0.02 * _normal(state)
        row[F.tilt] = 0.05 * _normal(state)

        low, high = (150.0, 215.0) if bright else (32.0, 135.0)
        row[F.background] = min(max(optic[2], low), high)
        row[F.focus] = math.exp(optic[3])
        row[F.halo] = max(optic[4], 2.0)
        row[F.noise] = math.exp(optic[5])
        row[F.stripes] = math.exp(optic[6])
        row[F.drift] = math.exp(optic[7])
        row[F.drift_phase] = 2 * math.pi * _uniform(state)
        row[F.band] = optic[8]
        row[F.band_top] = 0.25 + 0.02 * _normal(state)
        row[F.band_bottom] = 0.67 + 0.012 * _normal(state)
        row[F.rim] = optic[9]
        row[F.shadow_angle] = optic[10]
        row[F.light_angle] = 2.6 + 0.3 * _normal(state)
        row[F.side] = 0.18 * _normal(state)
        if bright:
            row[F.amplitude] = 1.0 + 0.06 * _normal(state)
            row[F.shadow] = 0.0
            row[F.rim] *= (0.2 / row[F.rim_width]) ** 0.35
        else:
            # Cells on a dark background are brighter, because every frame uses the whole range of grey levels.
            row[F.amplitude] = (250.0 - row[F.background]) / 155.0 * (1.0 + 0.05 * _normal(state))
            row[F.shadow] = row[F.background] * (1.25 + 0.08 * _normal(state))
            row[F.rim] *= row[F.amplitude] * (1.5 - 1.25 * row[F.density])
        row[F.nucleus_x] = (0.0 if bright else 0.28) + 0.07 * _normal(state)
        row[F.nucleus_y] = 0.07 * _normal(state)
        row[F.grain] = (14.0 if bright else 9.0) * math.exp(0.15 * _normal(state))
        row[F.texture_x] = 1024.0 + 256.0 * _uniform(state)
        row[F.texture_y] = 1024.0 + 256.0 * _uniform(state)
        total = 0.0
        for k in range(4):
            row[F.wave_2 + k] = abs(_normal(state)) / (1.0 + 0.9 * k)
            row[F.phase_2 + k] = 2 * math.pi * _uniform(state)
            total += 0.5 * row[F.wave_2 + k] ** 2
        for k in range(4):
            row[F.wave_2 + k] *= irregularity / math.sqrt(total)
        row[F.bleb_size] = 0.0
        if _uniform(state) < 3.0 * irregularity:
            row[F.bleb_size] = min(4.0 * irregularity * (0.5 + _uniform(state)), 0.35)
        row[F.bleb_angle] = 2 * math.pi * _uniform(state)
        row[F.debris] = 0.0
        if _uniform(state) < 0.06:
            row[F.debris] = (0.2 + 0.6 * _uniform(state)) * (140.0 if bright else 0.6 * row[F.background])
        around = 2 * math.pi * _uniform(state)
        row[F.debris_x] = row[F.center_x] + (1.25 * row[F.half_width] + 0.06) * math.cos(around)
        row[F.debris_y] = row[F.center_y] + (1.25 * row[F.half_height] + 0.06) * math.sin(around)
        row[F.stripe_at] = int(1000 * _uniform(state))
        row[F.noise_x] = int(1000 * _uniform(state))
        row[F.noise_y] = int(120 * _uniform(state))

        # Drawn for every cell, so that the share of defects does not change any other number.
        strength, turn, scale = _uniform(state), 2 * math.pi * _uniform(state), math.exp(0.08 * _normal(state))
        row[F.defect_strength] = 0.0
        row[F.partner_x], row[F.partner_y], row[F.partner_scale] = row[F.center_x], row[F.center_y], scale
        if defect == 2:  # cut: a part of the cell's length lies outside the frame
            outside = 0.25 + 0.4 * strength
            row[F.defect_strength] = outside
            side = int(4 * turn / (2 * math.pi))
            if side == 0:
                row[F.center_x] = (1 - 2 * outside) * row[F.half_width]
            elif side == 1:
                row[F.center_x] = 1 - (1 - 2 * outside) * row[F.half_width]
            elif side == 2:
                row[F.center_y] = (1 - 2 * outside) * row[F.half_height]
            else:
                row[F.center_y] = 1 - (1 - 2 * outside) * row[F.half_height]
        elif defect == 3:  # defocused: width of the blur as a share of the frame
            row[F.defect_strength] = (0.022 + 0.028 * strength) * (1.0 if bright else 1.5)
        elif defect == 4:  # ghost: two copies of the cell with this share of the contrast, side by side
            row[F.defect_strength] = 0.08 + 0.12 * strength
            row[F.partner_x] = row[F.center_x] + 0.8 * row[F.half_width] * math.cos(turn)
            row[F.partner_y] = row[F.center_y] + 0.8 * row[F.half_height] * math.sin(turn)
        elif defect == 5:  # doublet: two touching cells
            gap_x = (1 + scale) * row[F.half_width] * (1.0 + 0.15 * strength) * math.cos(turn)
            gap_y = (1 + scale) * row[F.half_height] * (1.0 + 0.15 * strength) * math.sin(turn)
            row[F.center_x], row[F.center_y] = row[F.center_x] - gap_x / 2, row[F.center_y] - gap_y / 2
            row[F.partner_x], row[F.partner_y] = row[F.center_x] + gap_x, row[F.center_y] + gap_y
