"""Render one synthetic cell from a row of parameters, in numba loops. This module draws no random numbers.

All lengths are in *frame units*: x from 0 (left) to 1 (right) and y from 0 (top) to 1 (bottom), for any number of
pixels, because the measured cells (:mod:`fastcell.simulator.simulate`) are frames resized to a square. A body is an
ellipse with a wavy contour. Its brightness is a sum of products (weight by angle) x (profile by radius), plus a texture
sampled from a tile. The result is a bright-field image with dark rim and halo in collection 2, and a relief with a
bright and a shaded part in collection 1.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from fastcell.ops.cpu.compiled_loops import entry
from fastcell.simulator.parameter_columns import F

NUM_ANGLES = 128
NUM_RADII = 320
MAX_RADIUS = 2.0
"""Nothing of a body is drawn beyond this number of its radii."""


@njit(nogil=True, inline="always")
def _bump(distance: float, width: float) -> float:
    scaled = distance / width
    return math.exp(-scaled * scaled)


@njit(nogil=True)
def _angular_weights(row: npt.NDArray[np.float64], weights: npt.NDArray[np.float32]) -> None:
    """Fill (NUM_ANGLES + 1, 5): contour radius, weights of rim, halo and shadow (or second fringe), amplitude."""
    relief = row[F.relief] > 0.5
    # The shadow has the same length for small and large cells.
    spot = 3.5 * row[F.half_width] * row[F.half_height] / 0.0225
    for k in range(NUM_ANGLES + 1):
        angle = 2 * math.pi * k / NUM_ANGLES
        c, s = math.cos(angle), math.sin(angle)
        contour = 1.0
        for mode in range(4):
            contour += row[F.wave_2 + mode] * math.cos((mode + 2) * angle + row[F.phase_2 + mode])
        contour += row[F.bleb_size] * math.exp(9.0 * (math.cos(angle - row[F.bleb_angle]) - 1))
        weights[k, 0] = contour
        if relief:
            uneven = 0.16 * math.cos(2 * angle + row[F.phase_3]) + 0.16 * math.cos(3 * angle + row[F.phase_5])
            weights[k, 1] = row[F.rim] * (1 + 0.62 * math.cos(angle - row[F.light_angle]) + uneven)
            weights[k, 2] = -row[F.halo] * (1 - 0.4 * c)
            weights[k, 3] = -row[F.shadow] * math.exp(spot * (math.cos(angle - row[F.shadow_angle]) - 1))
        else:
            weights[k, 1] = -row[F.rim] * (1 - 0.33 * (c * c - s * s) + row[F.side] * c)
            weights[k, 2] = row[F.halo] * (0.02 + 0.98 * max(s, 0.0) ** 2 + 0.42 * max(-c, 0.0) ** 2)
            weights[k, 3] = -0.12 * row[F.halo] * (0.5 + 0.5 * s)
        weights[k, 4] = row[F.amplitude]


@njit(nogil=True)
def _radial_profiles(row: npt.NDArray[np.float64], profiles: npt.NDArray[np.float32]) -> None:
    """Fill (NUM_RADII + 1, 5): interior, rim, halo, shadow (or second fringe), and the step that limits the texture."""
    relief = row[F.relief] > 0.5
    half = math.sqrt(row[F.half_width] * row[F.half_height])
    edge = row[F.focus] / half
    rim_width = math.sqrt(row[F.rim_width] ** 2 + edge * edge)
    if relief:
        interior, rim_at, bound = 100.0 * row[F.density], 0.74, 0.91
        halo_at, halo_width = 1.0 + 0.050 / half, 0.035 / half
        shadow_at, shadow_width = 1.0 + 0.012 / row[F.half_width], 0.032 / row[F.half_width]
    else:
        interior, rim_at, bound = -(18.0 + 55.0 * row[F.density]), 0.84, 1.0
        halo_at, halo_width = 1.0 + 2.6 * edge, 1.9 * edge
        shadow_at, shadow_width = 1.0 + 7.0 * edge, 2.2 * edge
    for k in range(NUM_RADII + 1):
        r = MAX_RADIUS * k / NUM_RADII
        step = 1.0 / (1.0 + math.exp(min((r - bound) / (0.75 * edge), 60.0)))
        profiles[k, 0] = interior * step
        profiles[k, 1] = _bump(r - rim_at, rim_width) * step
        profiles[k, 2] = _bump(r - halo_at, halo_width)
        profiles[k, 3] = _bump(r - shadow_at, shadow_width)
        profiles[k, 4] = step


@entry(nogil=True)
def draw_body(
    row: npt.NDArray[np.float64],
    layer: npt.NDArray[np.float32],
    texture: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32],
    profiles: npt.NDArray[np.float32],
) -> None:
    """Add one body to `layer`.

    Args:
        row: (len(F),) float64, the parameters of :class:`fastcell.simulator.parameter_columns.F`.
        layer: (H, W) float32, grey levels above the background; modified in place.
        texture: (T, T) float32, a periodic tile of zero mean and unit variance, T a power of two.
        weights: (NUM_ANGLES + 1, 5) float32, workspace.
        profiles: (NUM_RADII + 1, 5) float32, workspace.
    """
    _angular_weights(row, weights)
    _radial_profiles(row, profiles)
    height, width = layer.shape
    mask = texture.shape[0] - 1
    a, b = row[F.half_width], row[F.half_height]
    cos_tilt, sin_tilt = math.cos(row[F.tilt]), math.sin(row[F.tilt])
    last = MAX_RADIUS - 0.01 if row[F.relief] > 0.5 else min(1.0 + 12.0 * row[F.focus] / math.sqrt(a * b), 1.99)
    reach = last * 1.15
    span_x = reach * math.sqrt((a * cos_tilt) ** 2 + (b * sin_tilt) ** 2)
    span_y = reach * math.sqrt((a * sin_tilt) ** 2 + (b * cos_tilt) ** 2)
    x0 = max(0, int((row[F.center_x] - span_x) * width))
    x1 = min(width, int((row[F.center_x] + span_x) * width) + 1)
    y0 = max(0, int((row[F.center_y] - span_y) * height))
    y1 = min(height, int((row[F.center_y] + span_y) * height) + 1)
    nucleus = 1.0 / row[F.nucleus_ratio]
    contrast = row[F.nucleus_contrast] * row[F.amplitude]
    granularity, grain = row[F.granularity] * row[F.amplitude], row[F.grain]
    slope = 0.35 if row[F.relief] > 0.5 else 0.0
    per_radius = NUM_RADII / MAX_RADIUS
    quarter = NUM_ANGLES / 4
    for y in range(y0, y1):
        dy = (y + 0.5) / height - row[F.center_y]
        for x in range(x0, x1):
            dx = (x + 0.5) / width - row[F.center_x]
            u = (cos_tilt * dx + sin_tilt * dy) / a
            v = (cos_tilt * dy - sin_tilt * dx) / b
            square = u * u + v * v
            if square > reach * reach:
                continue
            r = math.sqrt(square)
            # Angle in table steps from a cubic approximation of the arc tangent, with an error below one step.
            au, av = abs(u), abs(v)
            q = min(au, av) / (max(au, av) + 1e-12)
            t = q * (1.0584 - 0.273 * (q - 0.2126 * (1 - q))) * (0.5 * quarter) / (1.0584 - 0.273)
            if av > au:
                t = quarter - t
            if u < 0:
                t = 2 * quarter - t
            if v < 0:
                t = 4 * quarter - t
            k = min(int(t), NUM_ANGLES - 1)
            f = np.float32(t - k)
            r /= weights[k, 0] + f * (weights[k + 1, 0] - weights[k, 0])
            if r >= last:
                continue
            m = int(r * per_radius + 0.5)
            value = (
                profiles[m, 0] * weights[k, 4] * (1.0 - slope * u)
                + profiles[m, 1] * (weights[k, 1] + f * (weights[k + 1, 1] - weights[k, 1]))
                + profiles[m, 2] * (weights[k, 2] + f * (weights[k + 1, 2] - weights[k, 2]))
                + profiles[m, 3] * (weights[k, 3] + f * (weights[k + 1, 3] - weights[k, 3]))
            )
            inside = profiles[m, 4]
            if inside > 0.02:
                p, s = u * grain + row[F.texture_x], v * grain + row[F.texture_y]
                ip, js = int(p), int(s)
                fp, fs = np.float32(p - ip), np.float32(s - js)
                i0, i1, j0, j1 = ip & mask, (ip + 1) & mask, js & mask, (js + 1) & mask
                upper = texture[j0, i0] + fp * (texture[j0, i1] - texture[j0, i0])
                lower = texture[j1, i0] + fp * (texture[j1, i1] - texture[j1, i0])
                un, vn = (u - row[F.nucleus_x]) * nucleus, (v - row[F.nucleus_y]) * nucleus
                d = un * un + vn * vn
                core = 1.0 / (1.0 + d * d * d)
                value += inside * (granularity * (upper + fs * (lower - upper)) + contrast * core)
            layer[y, x] += value


@entry(nogil=True)
def draw_debris(row: npt.NDArray[np.float64], layer: npt.NDArray[np.float32]) -> None:
    """Subtract a speck beside the cell from `layer` (H, W) float32; if ``debris`` is 0, leave it unchanged."""
    if row[F.debris] <= 0:
        return
    height, width = layer.shape
    at_x, at_y, radius_x, radius_y = row[F.debris_x], row[F.debris_y], 0.018, 0.03
    for y in range(max(0, int((at_y - 3 * radius_y) * height)), min(height, int((at_y + 3 * radius_y) * height) + 1)):
        dy = ((y + 0.5) / height - at_y) / radius_y
        for x in range(max(0, int((at_x - 3 * radius_x) * width)), min(width, int((at_x + 3 * radius_x) * width) + 1)):
            dx = ((x + 0.5) / width - at_x) / radius_x
            d = dx * dx + dy * dy
            layer[y, x] -= row[F.debris] * (math.exp(-d) - 0.25 * math.exp(-0.35 * (d - 3.2) ** 2))


@entry(nogil=True)
def compose(
    row: npt.NDArray[np.float64],
    layer: npt.NDArray[np.float32],
    noise: npt.NDArray[np.float32],
    stripes: npt.NDArray[np.float32],
    out: npt.NDArray[np.uint8],
) -> None:
    """Add background level, drift, stripes along the flow, bands and sensor noise to the cells; round and clip.

    Args:
        row: (len(F),) float64, the parameters.
        layer: (H, W) float32, grey levels above the background.
        noise: (N, M) float32 of unit variance, N >= H + noise_y, M >= W + noise_x.
        stripes: (M,) float32 of unit variance, M >= W + stripe_at.
        out: (H, W) uint8, output.
    """
    height, width = layer.shape
    columns = np.empty(width, np.float32)
    start, first_x, first_y = int(row[F.stripe_at]), int(row[F.noise_x]), int(row[F.noise_y])
    for x in range(width):
        position = (x + 0.5) / width
        drift = math.sin(2 * math.pi * 0.8 * position + row[F.drift_phase])
        columns[x] = row[F.background] + row[F.stripes] * stripes[start + x] + 0.5 * row[F.drift] * drift + 0.5
    sigma = np.float32(row[F.noise])
    for y in range(height):
        position = (y + 0.5) / height
        above = 1 / (1 + math.exp((row[F.band_top] - position) / 0.012))
        below = 1 / (1 + math.exp((row[F.band_bottom] - position) / 0.012))
        level = np.float32(row[F.band] * (above - below - 0.5))
        for x in range(width):
            value = columns[x] + level + layer[y, x] + sigma * noise[first_y + y, first_x + x]
            out[y, x] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))
