"""Large arrays outside of the heap: zeros that nobody wrote take no memory, and freed arrays none at all.

`library_settings.raise_malloc_thresholds` keeps freed memory in the heap, for buffers that are needed again and again.
An array that lives once, or of which few values are ever written, is better off in memory of its own.
"""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt


def own_zeros(num: int, dtype: npt.DTypeLike) -> np.ndarray:
    """Return zeros, (num,) of a type, in pages of the system of their own."""
    kind = np.dtype(dtype)
    pages = mmap.mmap(-1, max(num * kind.itemsize, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, kind, num)
