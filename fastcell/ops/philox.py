"""Philox4x32-10, the counter-based random number generator of all kernels: for arrays and for compiled loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from fastcell.ops.cpu.compiled_loops import INLINE

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))


def philox(
    counter: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], key: npt.ArrayLike
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Compute four random words for each counter.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011; the tests check its known answers.

    Args:
        counter: four 32-bit words, the lowest first; arrays are broadcast.
        key: 64-bit key; broadcast as well.

    Returns:
        Four uint64 arrays of the broadcast shape, with 32 random bits in each element.
    """
    x0, x1, x2, x3 = (np.asarray(word, dtype=np.uint64) & _LOW for word in counter)
    whole = np.asarray(key, dtype=np.uint64)
    k0, k1 = whole & _LOW, whole >> _HALF
    for _ in range(10):
        p, q = _MULTIPLIERS[0] * x0, _MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (q >> _HALF) ^ x1 ^ k0, q & _LOW, (p >> _HALF) ^ x3 ^ k1, p & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return x0, x1, x2, x3


def uniform(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Map 32-bit words to float64 in (0, 1): the centres of 2**32 equal intervals, so 0 and 1 do not occur."""
    return (words.astype(np.float64) + 0.5) * 2.0**-32


@njit(**INLINE)
def philox_words(x0, x1, x2, x3, key_low, key_high):  # type: ignore[no-untyped-def]
    """Compute `philox` for one counter (x0, x1, x2, x3) in compiled loops; uint64 registers hold 32-bit words."""
    for _ in range(10):
        p, q = _MULTIPLIERS[0] * x0, _MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (q >> _HALF) ^ x1 ^ key_low, q & _LOW, (p >> _HALF) ^ x3 ^ key_high, p & _LOW
        key_low = (key_low + _WEYL[0]) & _LOW
        key_high = (key_high + _WEYL[1]) & _LOW
    return x0, x1, x2, x3
