"""The grey level around a cell: the median of the outermost frame of pixels, and what is painted outside of it."""

from __future__ import annotations

import numpy as np


def border_median(pixels: np.ndarray) -> float:
    """Return the median of the outermost frame of pixels, each counted once.

    Args:
        pixels: (H, W) of whole numbers, H and W >= 1.

    Returns:
        The middle value, or the mean of the two in the middle, in the unit of `pixels`.
    """
    if min(pixels.shape) == 1:
        frame = np.sort(pixels, axis=None)
    else:
        frame = np.sort(np.concatenate((pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1])))
    middle = len(frame) // 2
    return (int(frame[middle]) + int(frame[(len(frame) - 1) // 2])) / 2


def outside_levels(border_medians: np.ndarray, fit: str) -> np.ndarray | None:
    """Return the grey level that is painted where an output pixel lies outside of its cell.

    Args:
        border_medians: (N,) grey level of the border of each cell, `border_median`.
        fit: of the cell into the square, one of `fastcell.ops.constants.FITS`.

    Returns:
        (N,) float32, the border medians; None for ``stretch``, under which the edge of a cell continues.
    """
    return None if fit == "stretch" else border_medians.astype(np.float32)
