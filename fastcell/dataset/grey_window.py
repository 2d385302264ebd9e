"""Grey levels: of colours, and of 16-bit cells through a window that maps them to 8 bits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Window = tuple[float, float] | None
"""Grey levels that map to black and white. None for 8-bit cells, which need no window."""


@lru_cache(maxsize=8)
def window_table(low: float, high: float, depth: int = 8) -> np.ndarray:
    """Return a lookup table for 16-bit grey levels: linear, rounded to nearest, clipped.

    Args:
        low: grey level that maps to black.
        high: grey level that maps to white; greater than `low`.
        depth: bits of the output levels. 8 maps `high` to 255, 16 maps it to 65535; `low` maps to 0.

    Returns:
        (65536,) uint8 or uint16, read-only.
    """
    white, dtype = (255, np.uint8) if depth == 8 else (65535, np.uint16)
    levels = (np.arange(65536, dtype=np.float64) - low) * (white / (high - low))
    table = np.clip(np.floor(levels + 0.5), 0, white).astype(dtype)
    table.flags.writeable = False
    return table


def colours_to_grey(colours: np.ndarray) -> np.ndarray:
    """Return 0.299 R + 0.587 G + 0.114 B, rounded to nearest.

    Args:
        colours: (H, W, 3) uint8 or uint16, in the order R, G, B.

    Returns:
        (H, W) of the same type, contiguous.
    """
    red, green, blue = (colours[:, :, i].astype(np.uint32) for i in range(3))
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(colours.dtype)
