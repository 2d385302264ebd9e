"""The grey level around a cell: the median of the outermost frame of pixels of its image."""

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
