"""Window of grey levels that maps 16-bit cells to 8 bit."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Window = tuple[float, float] | None
"""Grey levels shown black and white; None for cells of 8 bit, which need none."""


@lru_cache(maxsize=8)
def window_table(low: float, high: float, depth: int = 8) -> np.ndarray:
    """(65536,) uint8 or uint16: the level shown for each 16-bit level, linear, rounded to nearest, clipped.

    Args:
        low: grey level shown black.
        high: grey level shown white; above `low`.
        depth: 8 takes low -> 0 and high -> 255, 16 takes high -> 65535.
    """
    white, dtype = (255, np.uint8) if depth == 8 else (65535, np.uint16)
    levels = (np.arange(65536, dtype=np.float64) - low) * (white / (high - low))
    table = np.clip(np.floor(levels + 0.5), 0, white).astype(dtype)
    table.flags.writeable = False
    return table
