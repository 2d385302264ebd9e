"""Background grey level of a cell: the median of its outermost frame of pixels, used to fill the image around it."""

from __future__ import annotations

import numpy as np


def border_median(pixels: np.ndarray) -> float:
    """Return the median of the outermost frame of pixels.

    Each pixel of the frame counts once.

    Args:
        pixels: (H, W) integers, H and W >= 1.

    Returns:
        Median in the unit of `pixels`: the middle value, or the mean of the two middle values.
    """
    if min(pixels.shape) == 1:
        frame = pixels.flatten()
    else:
        frame = np.concatenate((pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]))
    lower, upper = (len(frame) - 1) // 2, len(frame) // 2
    frame.partition((lower, upper) if lower < upper else lower)
    return (int(frame[lower]) + int(frame[upper])) / 2


def outside_levels(border_medians: np.ndarray, fit: str) -> np.ndarray | None:
    """Return the grey level to paint where an output pixel lies outside its cell.

    Args:
        border_medians: (N,) border grey level of each cell, from `border_median`.
        fit: how the cell is fitted into the square, one of `fastcell.ops.constants.FITS`.

    Returns:
        (N,) float32, the border medians. None for ``stretch``, which repeats the edge pixels of the cell instead.
    """
    return None if fit == "stretch" else border_medians.astype(np.float32, copy=False)
