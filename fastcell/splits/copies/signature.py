"""Prepare cells for the search for copies: smoothed grey levels on a common scale, and an invariant signature.

A cell is sampled on rings around its centre of brightness. The Fourier magnitudes along each ring are the same for the
cell, for the cell rotated by any angle, and for the mirrored cell. Half of the signature uses rings up to twice the
cell's own radius of gyration, so it is the same for a rescaled cell. The other half uses rings of a fixed size, which
distinguish more cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

NUM_RINGS, NUM_ANGLES = 16, 64
NUM_HARMONICS = 17
SMOOTHING_PX = 1.0
LEVELS = 64
"""Smoothed grey levels are stored as int16 in units of 1 / 64 level."""
WORKING_AREA_PX = 4096
MIN_SIDE_PX, MIN_AREA_PX = 8, 100
MIN_CONTRAST = 8.0

_SIGNATURE_HARMONICS = 9
_SIGNATURE_SMOOTHING_PX = 1.0
_CELL_LEVEL = 0.15  # share of the largest difference from the background above which a pixel belongs to the cell
_REACH, _LEAST_REACH_PX = 2.0, 4.0  # radius of the outermost ring, in radii of gyration and in working pixels


@dataclass(frozen=True)
class Scale:
    """Common scale of all cells of a search.

    Attributes:
        factor: scale factor from raw to working pixels.
        reach_px: radius of the outermost ring of one size, in working pixels.
    """

    factor: float
    reach_px: float


@dataclass(frozen=True)
class Looks:
    """n cells, prepared for comparison.

    Attributes:
        pixels: int16 1-D, smoothed levels above the background, cell after cell.
        offsets: (n,) int64, start of each cell in `pixels`.
        heights: (n,) int32, working pixels.
        widths: (n,) int32, working pixels.
        centers: (n, 2) float64, x and y of the centre.
        spectra: (n, rings, harmonics) complex64, Fourier series along the rings, computed from rings of joint norm 1.
        signatures: (n, p) float32.
        plain: (n,) bool, True for cells with too little content to be distinguished from others: less than 8 pixels
            high or wide, less than 100 pixels in total, or less than 8 grey levels of contrast.
    """

    pixels: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]
    centers: npt.NDArray[np.float64]
    spectra: npt.NDArray[np.complex64]
    signatures: npt.NDArray[np.float32]
    plain: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.offsets)

    def image(self, index: int) -> np.ndarray:
        """Return the smoothed levels of one cell, (H, W) float32."""
        start, height, width = self.offsets[index], int(self.heights[index]), int(self.widths[index])
        flat = self.pixels[start : start + height * width].astype(np.float32) / np.float32(LEVELS)
        return flat.reshape(height, width)

    def take(self, indices: npt.NDArray[np.int64]) -> Looks:
        """Return the cells at these indices."""
        pieces = [self.pixels[self.offsets[i] : self.offsets[i] + self.heights[i] * self.widths[i]] for i in indices]
        sizes = np.array([len(piece) for piece in pieces], np.int64)
        return Looks(
            np.concatenate(pieces) if pieces else self.pixels[:0],
            np.cumsum(sizes) - sizes,
            self.heights[indices],
            self.widths[indices],
            self.centers[indices],
            self.spectra[indices],
            self.signatures[indices],
            self.plain[indices],
        )


def join_looks(parts: Sequence[Looks]) -> Looks:
    """Concatenate the cells of all parts, in their order; at least one part."""
    ends = np.cumsum([len(part.pixels) for part in parts])
    starts = [end - len(part.pixels) for end, part in zip(ends.tolist(), parts, strict=True)]
    return Looks(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.offsets + start for start, part in zip(starts, parts, strict=True)]),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("heights", "widths", "centers", "spectra", "signatures", "plain")
        ),
    )


def find_scale(cells: Sequence[np.ndarray]) -> Scale:
    """Find the scale of a search from a sample of its cells, (H, W) uint8 each."""
    factor = min(1.0, float(np.sqrt(WORKING_AREA_PX / np.median([cell.size for cell in cells]))))
    radii = [_find_center(_prepare(cell, factor))[2] for cell in cells]
    return Scale(factor, max(_LEAST_REACH_PX, _REACH * float(np.quantile(radii, 0.9))))


def look_at(cells: Iterable[np.ndarray], scale: Scale) -> Looks:
    """Prepare cells, (H, W) uint8 each, for comparison."""
    pixels, shapes, centers, spectra, signatures, plain = [], [], [], [], [], []
    for cell in cells:
        image = _prepare(cell, scale.factor)
        x, y, radius = _find_center(image)
        reach = max(_REACH * radius, _LEAST_REACH_PX)
        rings = _sample_rings(image, x, y, reach)
        spectrum = np.fft.rfft(rings, axis=1)[:, :NUM_HARMONICS].astype(np.complex64)
        pixels.append(np.rint(image * LEVELS).astype(np.int16).reshape(-1))
        shapes.append(image.shape)
        centers.append((x, y))
        spectra.append(spectrum)
        signatures.append(_sign(image, x, y, reach, scale.reach_px))
        small = min(cell.shape) < MIN_SIDE_PX or cell.size < MIN_AREA_PX
        plain.append(small or float(image.max() - image.min()) < MIN_CONTRAST)
    num, width = len(pixels), 1 + 2 * NUM_RINGS * _SIGNATURE_HARMONICS
    sides = np.array(shapes, np.int32).reshape(-1, 2)
    areas = sides.astype(np.int64).prod(1)
    return Looks(
        np.concatenate(pixels) if pixels else np.zeros(0, np.int16),
        np.cumsum(areas) - areas,
        np.ascontiguousarray(sides[:, 0]),
        np.ascontiguousarray(sides[:, 1]),
        np.array(centers, np.float64).reshape(num, 2),
        np.array(spectra, np.complex64).reshape(num, NUM_RINGS, NUM_HARMONICS),
        np.array(signatures, np.float32).reshape(num, width),
        np.array(plain, bool),
    )


def _prepare(cell: np.ndarray, factor: float) -> np.ndarray:
    """Return the smoothed levels above the median of the border, on the working scale, (H, W) float32."""
    if factor < 1:
        size = tuple(max(2, round(side * factor)) for side in cell.shape[::-1])
        image = cv2.resize(cell.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    else:
        image = cell.astype(np.float32)
    return _smoothed(image - np.float32(border_level(cell)))


def border_level(cell: np.ndarray) -> float:
    """Return the median grey level of the outermost frame of pixels, with corners counted twice.

    `fastcell.ops.border.border_median` counts corners once, which gives another level for small images.
    """
    frame = np.sort(np.concatenate((cell[0], cell[-1], cell[:, 0], cell[:, -1])))
    return (float(frame[len(frame) // 2]) + float(frame[(len(frame) - 1) // 2])) / 2


def _smoothed(image: np.ndarray, sigma: float = SMOOTHING_PX) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def _find_center(image: np.ndarray) -> tuple[float, float, float]:
    """Return x, y and radius of gyration of the cell (deviation from the background), in working pixels."""
    weight = np.abs(image)
    weight = _smoothed(np.maximum(weight - _CELL_LEVEL * weight.max(), 0))
    total = float(weight.sum())
    rows, columns = (np.arange(side, dtype=np.float32) for side in image.shape)
    if total <= 1e-6:
        return (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2, 1.0
    by_row, by_column = weight.sum(1), weight.sum(0)
    y, x = float(by_row @ rows) / total, float(by_column @ columns) / total
    spread = float(by_row @ (rows - y) ** 2 + by_column @ (columns - x) ** 2) / total
    return x, y, max(float(np.sqrt(spread)), 1.0)


@lru_cache(maxsize=1)
def _ring_places() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x and y of the samples on rings out to radius 1, and the weights of the rings."""
    radius = (np.arange(NUM_RINGS) + 0.5) / NUM_RINGS
    angle = np.arange(NUM_ANGLES) * (2 * np.pi / NUM_ANGLES)
    x, y = np.outer(radius, np.cos(angle)), np.outer(radius, np.sin(angle))
    return x.astype(np.float32), y.astype(np.float32), np.sqrt(np.arange(NUM_RINGS) + 0.5)[:, None].astype(np.float32)


def _sample_rings(image: np.ndarray, x: float, y: float, reach_px: float) -> np.ndarray:
    """Return (rings, angles) float32, weighted by the square root of each ring's area and scaled to norm 1."""
    dx, dy, weight = _ring_places()
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": 0}
    places = (dx * np.float32(reach_px) + np.float32(x), dy * np.float32(reach_px) + np.float32(y))
    rings = cv2.remap(image, *places, cv2.INTER_LINEAR, **border) * weight
    return rings / max(float(np.linalg.norm(rings)), 1e-6)


def _sign(image: np.ndarray, x: float, y: float, own_reach_px: float, reach_px: float) -> np.ndarray:
    """Return (1 + 2 x rings x harmonics,) float32: means and magnitudes of harmonics of both rings, log of the size."""
    smooth = _smoothed(image, _SIGNATURE_SMOOTHING_PX)
    rings = np.stack([_sample_rings(smooth, x, y, reach) for reach in (own_reach_px, reach_px)])
    series = np.fft.rfft(rings, axis=2)[..., :_SIGNATURE_HARMONICS] / np.sqrt(NUM_ANGLES)
    magnitudes = np.abs(series)
    magnitudes[..., 0] = series[..., 0].real
    return np.append(magnitudes.reshape(-1), np.log(own_reach_px) / 2).astype(np.float32)
