"""Registration of two images: best rotation, mirroring, shift and scale, and how well the images then agree.

Starting angles come from the correlation of the rings of both cells (`fastcell.splits.copies.signature`) over all
rotations, with and without mirroring. Gauss-Newton steps then minimise the squared difference over the overlap. The
gain and offset of the second image are fitted as well, so that brightness has no effect.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numba
import numpy as np
import numpy.typing as npt

from fastcell.ops.cpu.compiled_loops import entry
from fastcell.splits.copies.signature import LEVELS, NUM_ANGLES, Looks

MIN_OVERLAP_PX = 64
BLURS_PX = (0.5, 0.8, 1.1, 1.5)

MOST_GROWTH = 0.25
"""Largest natural logarithm of the enlargement, either way."""

_NUM_STARTS = 3
_COARSE = 2  # stride of the pixels along both axes while all starts are followed
_COARSE_STEPS, _FINE_STEPS = 12, 10
_COARSE_CORRELATION = 0.85  # a worse start is not refined
_WORTH_COMPARING = 0.9  # a sharp and a blurred copy of one cell reach this correlation
_DETAIL_PX = 2.0
_CELL_LEVEL = 0.15
_PART_PAIRS = 256


class Fit(NamedTuple):
    """Agreement of two registered images where they overlap.

    Attributes:
        correlation: Pearson correlation of the smoothed images, after blurring the sharper image to match the other.
        detail: Pearson correlation, on the cell, of what remains after subtracting a Gaussian blur of 2 pixels.
        overlap: share of the smaller image that is covered.
        cell: share of the cell (squared deviation from the background) that is covered, for the image with the lower
            share.
    """

    correlation: float
    detail: float
    overlap: float
    cell: float


_NONE = Fit(-1.0, -1.0, 0.0, 0.0)


def register(first: Looks, second: Looks, pairs: npt.NDArray[np.int64], threads: int) -> list[Fit]:
    """Register pairs of cells.

    Args:
        first: prepared cells.
        second: prepared cells.
        pairs: (P, 2) int64, index into `first` and index into `second`.
        threads: number of threads.

    Returns:
        The fit of each pair.
    """

    def part(chosen: npt.NDArray[np.int64]) -> list[Fit]:
        motions = _align(*_columns(first), *_columns(second), chosen)
        return [
            _compare(first.image(a), second.image(b), first.centers[a], second.centers[b], motion)
            for (a, b), motion in zip(chosen.tolist(), motions, strict=True)
        ]

    parts = [pairs[start : start + _PART_PAIRS] for start in range(0, len(pairs), _PART_PAIRS)]
    with ThreadPoolExecutor(threads, "fastcell-register") as pool:
        return [fit for fits in pool.map(part, parts) for fit in fits]


def _columns(looks: Looks) -> tuple[np.ndarray, ...]:
    return looks.pixels, looks.offsets, looks.heights, looks.widths, looks.centers, looks.spectra


def _compare(a: np.ndarray, b: np.ndarray, center_a: np.ndarray, center_b: np.ndarray, motion: np.ndarray) -> Fit:
    """Return the fit of (H, W) `a` and (h, w) `b` under a motion from `_align`."""
    theta, growth, shift_x, shift_y, mirror, correlation = motion.tolist()
    if correlation < _WORTH_COMPARING:
        return _NONE
    cos, sin = np.exp(growth) * np.cos(theta), np.exp(growth) * np.sin(theta)
    turn = np.array([[cos, -sin * mirror], [sin, cos * mirror]])
    shift = center_b + np.array([shift_x, shift_y]) - turn @ center_a
    there = np.concatenate([turn, shift[:, None]], axis=1)
    size, flags = a.shape[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(b, there, size, flags=flags)
    inside = (cv2.warpAffine(np.ones_like(b), there, size, flags=flags) > 0.99).astype(np.uint8)
    covered = float(inside.sum()) / min(a.size, b.size)
    inner = cv2.erode(inside, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    if inner.sum() < MIN_OVERLAP_PX:
        return _NONE
    seen = inside > 0
    share = min(_energy(a[seen]) / _energy(a), _energy(warped[seen]) / _energy(b))
    best, x, y = _match_blur(a, warped, inner)
    level = np.abs(x)
    on_cell = inner & (cv2.dilate((level > _CELL_LEVEL * level[inner].max()).astype(np.uint8), _FRAME) > 0)
    if on_cell.sum() < MIN_OVERLAP_PX:
        return Fit(best, -1.0, covered, share)
    detail = _pearson((x - _blur(x, _DETAIL_PX))[on_cell], (y - _blur(y, _DETAIL_PX))[on_cell])
    return Fit(best, detail, covered, share)


_FRAME = np.ones((3, 3), np.uint8)


def _match_blur(a: np.ndarray, b: np.ndarray, inner: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the largest correlation with one of the two images blurred, and the two images at that blur."""
    best = (_pearson(a[inner], b[inner]), a, b)
    for blur_first in (True, False):
        for sigma in BLURS_PX:
            x, y = (_blur(a, sigma), b) if blur_first else (a, _blur(b, sigma))
            correlation = _pearson(x[inner], y[inner])
            if correlation <= best[0]:
                break
            best = (correlation, x, y)
    return best


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def _energy(image: np.ndarray) -> float:
    """Return the sum of squared deviations from the background; never 0."""
    flat = image.reshape(-1)
    return float(flat @ flat) + 1e-6


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt(float(x @ x) * float(y @ y)))
    return float(x @ y) / norm if norm > 1e-3 else -1.0


@entry(nogil=True)
def _align(  # type: ignore[no-untyped-def]
    pixels_a, offsets_a, heights_a, widths_a, centers_a, spectra_a,
    pixels_b, offsets_b, heights_b, widths_b, centers_b, spectra_b,
    pairs,
):  # fmt: skip
    """Return (P, 6) float64: angle, log of the enlargement, shift along x and y, mirror (1 or -1), correlation."""
    motions = np.empty((len(pairs), 6))
    starts = np.empty((_NUM_STARTS, 2))
    for number in range(len(pairs)):
        i, j = pairs[number, 0], pairs[number, 1]
        a = pixels_a[offsets_a[i] : offsets_a[i] + heights_a[i] * widths_a[i]].reshape((heights_a[i], widths_a[i]))
        b = pixels_b[offsets_b[j] : offsets_b[j] + heights_b[j] * widths_b[j]].reshape((heights_b[j], widths_b[j]))
        _find_starts(spectra_a[i], spectra_b[j], starts)
        best = (0.0, 0.0, 0.0, 0.0, 1.0, -2.0)
        for start in range(_NUM_STARTS):
            angle, mirror = starts[start, 0], starts[start, 1]
            theta, growth, x, y, correlation = _descend(
                a, b, centers_a[i], centers_b[j], angle, 0.0, 0.0, 0.0, mirror, _COARSE, _COARSE_STEPS
            )
            if correlation > best[5]:
                best = (theta, growth, x, y, mirror, correlation)
        if best[5] >= _COARSE_CORRELATION:
            theta, growth, x, y, correlation = _descend(
                a, b, centers_a[i], centers_b[j], best[0], best[1], best[2], best[3], best[4], 1, _FINE_STEPS
            )
            best = (theta, growth, x, y, best[4], correlation)
        for k in range(6):
            motions[number, k] = best[k]
    return motions


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _find_starts(spectrum_a, spectrum_b, starts):  # type: ignore[no-untyped-def]
    """Find angles and mirrorings with the highest correlation of the rings, best first, at least four steps apart."""
    num_rings, num_harmonics = spectrum_a.shape
    score = np.zeros((2, NUM_ANGLES))
    for harmonic in range(num_harmonics):
        plain, mirrored = 0j, 0j
        for ring in range(num_rings):
            plain += np.conj(spectrum_a[ring, harmonic]) * spectrum_b[ring, harmonic]
            mirrored += spectrum_a[ring, harmonic] * spectrum_b[ring, harmonic]
        weight = 1.0 if harmonic == 0 else 2.0
        for k in range(NUM_ANGLES):
            phase = 2 * np.pi * harmonic * k / NUM_ANGLES
            turn = np.cos(phase) + 1j * np.sin(phase)
            score[0, k] += weight * (plain * turn).real
            score[1, k] += weight * (mirrored * turn).real
    for start in range(len(starts)):
        place = np.argmax(score)
        row, k = place // NUM_ANGLES, place % NUM_ANGLES
        starts[start, 0] = 2 * np.pi * k / NUM_ANGLES
        starts[start, 1] = 1.0 if row == 0 else -1.0
        for step in range(-3, 4):
            score[row, (k + step) % NUM_ANGLES] = -np.inf


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _descend(  # type: ignore[no-untyped-def]
    a, b, center_a, center_b, theta, growth, shift_x, shift_y, mirror, stride, num_steps
):
    """Refine a start by Gauss-Newton steps; return angle, growth, shifts and correlation of the best position.

    A pixel p of `a` maps to exp(growth) R(theta) M (p - center_a) + center_b + shift in `b`, where M mirrors y.
    """
    height, width = a.shape
    best = (theta, growth, shift_x, shift_y, -2.0)
    normal = np.empty((6, 7))
    row_of = np.empty(7)  # derivatives along turn, growth, x and y; level; 1; target
    for step in range(num_steps + 1):
        cos, sin = np.exp(growth) * np.cos(theta), np.exp(growth) * np.sin(theta)
        normal[:] = 0.0
        num, sum_aa = 0, 0.0
        for row in range(0, height, stride):
            y = (row - center_a[1]) * mirror
            for column in range(0, width, stride):
                x = column - center_a[0]
                turned_x, turned_y = cos * x - sin * y, sin * x + cos * y
                u = turned_x + center_b[0] + shift_x
                v = turned_y + center_b[1] + shift_y
                if u < 0 or v < 0 or u > b.shape[1] - 1 or v > b.shape[0] - 1:
                    continue
                i, j = min(int(u), b.shape[1] - 2), min(int(v), b.shape[0] - 2)
                du, dv = u - i, v - j
                b00, b01 = float(b[j, i]), float(b[j, i + 1])
                b10, b11 = float(b[j + 1, i]), float(b[j + 1, i + 1])
                along_x = (b01 - b00) * (1 - dv) + (b11 - b10) * dv
                along_y = (b10 - b00) * (1 - du) + (b11 - b01) * du
                row_of[0] = along_y * turned_x - along_x * turned_y
                row_of[1] = along_x * turned_x + along_y * turned_y
                row_of[2], row_of[3] = along_x, along_y
                row_of[4] = (b00 * (1 - du) + b01 * du) * (1 - dv) + (b10 * (1 - du) + b11 * du) * dv
                row_of[5] = 1.0
                row_of[6] = float(a[row, column])
                num += 1
                sum_aa += row_of[6] * row_of[6]
                for m in range(6):
                    for n in range(m, 7):
                        normal[m, n] += row_of[m] * row_of[n]
        if num < 16:
            break
        spread_a = sum_aa - normal[5, 6] ** 2 / num
        spread_b = normal[4, 4] - normal[4, 5] ** 2 / num
        if spread_a <= LEVELS or spread_b <= LEVELS:
            break
        shared = normal[4, 6] - normal[5, 6] * normal[4, 5] / num
        correlation = shared / np.sqrt(spread_a * spread_b)
        if correlation <= best[4] + 1e-6:
            break
        best = (theta, growth, shift_x, shift_y, correlation)
        if step == num_steps or shared <= 0:
            break
        for row in range(6):
            for column in range(row):
                normal[row, column] = normal[column, row]
        for row in range(4):
            normal[row, row] = normal[row, row] * 1.001 + 1e-6
        solution = np.linalg.solve(np.ascontiguousarray(normal[:, :6]), np.ascontiguousarray(normal[:, 6]))
        gain = solution[4] if solution[4] > 1e-3 else shared / spread_b
        turn, grow, dx, dy = solution[0] / gain, solution[1] / gain, solution[2] / gain, solution[3] / gain
        longest = max(abs(dx), abs(dy), 10 * abs(turn), 10 * abs(grow))
        if longest < 2e-3:
            break
        if longest > 2:
            turn, grow, dx, dy = turn * 2 / longest, grow * 2 / longest, dx * 2 / longest, dy * 2 / longest
        theta, shift_x, shift_y = theta + turn, shift_x + dx, shift_y + dy
        growth = min(max(growth + grow, -MOST_GROWTH), MOST_GROWTH)
    return best
