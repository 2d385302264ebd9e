"""Background of an image, measured on its frame: level, unevenness, noise and stripes.

Only the frame is measured: four strips of fixed width along the edges of the image, without the pixels of cells. The
background between cell and frame would give more data, but its amount and position follow the outline of the cell. (On
simulated cells whose background is independent of the class, lines of all background pixels still predicted the class
with a balanced accuracy of 0.47, where chance is 0.25: more pixels give less noise.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BACKGROUND_FEATURES: tuple[str, ...] = (
    "level",
    "skew",
    "spread",
    "slope_x",
    "slope_y",
    "sides",
    "twist",
    "noise_x",
    "noise_y",
    "coarse_noise",
    "row_stripes",
    "column_stripes",
    "share_of_0",
    "share_of_255",
)
"""Columns of `background_features`, in 8-bit grey levels.

level: median of the strips. skew: mean minus median. spread: mean absolute deviation from the median.
slope_x, slope_y: right minus left and lower minus upper strip. sides: left and right minus upper and lower strip.
twist: one pair of opposite corners minus the other.
noise_x, noise_y: mean absolute difference between neighbours, along the rows of the upper and lower strips and along
    the columns of the left and right strips; coarse_noise: the same two pixels apart along these rows, minus noise_x.
row_stripes, column_stripes: mean absolute second difference of the line means across a strip.
share_of_0, share_of_255: share of the pixels with the lowest and with the highest grey level.
"""
LEAST_SHARE = 0.6
STRIP = 0.1
_CLIP = 30.0  # grey levels; limits the effect of a speck of dirt on the slopes


def background_features(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Measure the background of one image along its frame.

    Args:
        pixels: (H, W) uint8.
        mask: (H, W) bool, True for background.

    Returns:
        (B,) float32, columns as in `BACKGROUND_FEATURES`; NaN if less than 60 % of the frame is background, or the
        image has fewer than 6 rows or columns.
    """
    height, width = mask.shape
    if min(height, width) < 6:
        return np.full(len(BACKGROUND_FEATURES), np.nan, np.float32)
    high, wide = max(2, round(STRIP * height)), max(2, round(STRIP * width))
    framed = np.ones(mask.shape, bool)
    framed[high:-high, wide:-wide] = False
    used = framed & mask
    if used.sum() < LEAST_SHARE * framed.sum():
        return np.full(len(BACKGROUND_FEATURES), np.nan, np.float32)
    values = pixels[used]
    level = float(np.median(values))
    off = np.clip(pixels.astype(np.float32) - np.float32(level), -_CLIP, _CLIP)
    top, bottom = (slice(None, high), slice(None)), (slice(-high, None), slice(None))
    left, right = (slice(None), slice(None, wide)), (slice(None), slice(-wide, None))
    corners = [(rows[0], columns[1]) for rows, columns in ((top, left), (bottom, right), (top, right), (bottom, left))]
    north, south, west, east, *corner = (_mean(off, used, place) for place in (top, bottom, left, right, *corners))
    lying, standing = (top, bottom), (left, right)
    noise_x, noise_y = _difference(off, used, lying, 1, 1), _difference(off, used, standing, 0, 1)
    return np.array(
        [
            level,
            off[used].mean(),
            np.abs(off[used]).mean(),
            east - west,
            south - north,
            0.5 * (east + west - north - south),
            0.5 * (corner[0] + corner[1] - corner[2] - corner[3]),
            noise_x,
            noise_y,
            _difference(off, used, lying, 1, 2) - noise_x,
            _stripes(off, used, standing, 1),
            _stripes(off, used, lying, 0),
            (values == 0).mean(),
            (values == 255).mean(),
        ],
        np.float32,
    )


_Place = tuple[slice, slice]


def _mean(off: np.ndarray, used: np.ndarray, place: _Place) -> float:
    part = off[place][used[place]]
    return float(part.mean()) if len(part) else 0.0


def _difference(off: np.ndarray, used: np.ndarray, places: tuple[_Place, _Place], axis: int, lag: int) -> float:
    """Return the mean absolute difference of background pixels `lag` apart in two strips; 0 without such a pair."""
    ahead, behind = [slice(None)] * 2, [slice(None)] * 2
    ahead[axis], behind[axis] = slice(lag, None), slice(None, -lag)
    total, num = 0.0, 0
    for place in places:
        values, known = off[place], used[place]
        both = known[tuple(ahead)] & known[tuple(behind)]
        total += float(np.abs(values[tuple(ahead)] - values[tuple(behind)])[both].sum())
        num += int(both.sum())
    return total / max(num, 1)


def _stripes(off: np.ndarray, used: np.ndarray, places: tuple[_Place, _Place], axis: int) -> float:
    """Return the mean absolute second difference of the line means across two strips.

    Each second difference uses three adjacent lines without cell pixels.
    """
    found = []
    for place in places:
        whole = np.asarray(used[place].all(axis))
        means = off[place].mean(axis)
        second = np.abs(means[1:-1] - 0.5 * (means[:-2] + means[2:]))
        found.append(second[whole[1:-1] & whole[:-2] & whole[2:]])
    joined = np.concatenate(found)
    return float(joined.mean()) if len(joined) else 0.0
