"""Keys and counters of the random numbers of an augmentation.

Philox makes four words of 32 bits from a key of 64 bits and a counter of four words, so which numbers a cell gets
depends on these alone:

=========  ===========================  ================================================
use        key                          counter
=========  ===========================  ================================================
changes    the seed                     position (low, high word), epoch, n = 0..2
noise      two words of the changes     y * Q + i, 0, 0, 0 (`fastcell.ops.cpu.noise`)
=========  ===========================  ================================================

``kernels/transform.cu`` does the same on the GPU.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcell.errors import invalid
from fastcell.ops.cpu.compiled_loops import OPTIONS, entry
from fastcell.ops.philox import philox_words

#: Counters, n = 0 up to here, that a cell has in an epoch.
COUNTERS = 3


def change_words(seed: int, epoch: int, positions: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Compute the random words of the changes of some cells of one epoch.

    Args:
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        positions: (B,) whole numbers >= 0.

    Returns:
        (COUNTERS, 4, B) uint64 that hold 32 random bits each: the four words of each counter.

    Raises:
        ArgumentError: seed, epoch or a position out of range.
    """
    if not 0 <= seed < 1 << 64:
        raise invalid("seed", "from 0 to 2**64 - 1", seed, "Choose another")
    if not 0 <= epoch < 1 << 32:
        raise invalid("epoch", "from 0 to 2**32 - 1", epoch, "Count epochs from 0")
    signed = np.asarray(positions)
    if signed.ndim != 1 or signed.dtype.kind not in "iu" or (signed.size and signed.min() < 0):
        raise invalid("positions", "one dimension of whole numbers >= 0", signed, "Give the place in the epoch's order")
    words = np.empty((COUNTERS, 4, len(signed)), np.uint64)
    _fill_words(signed.astype(np.uint64), np.uint64(epoch), np.uint64(seed), words)
    return words


def noise_keys(low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Join two random words of each cell to the 64-bit key of its noise, (B,) uint64."""
    return low | (high << np.uint64(32))


@entry(**OPTIONS)
def _fill_words(positions, epoch, seed, words):  # type: ignore[no-untyped-def]
    """Fill words uint64 (COUNTERS, 4, B) for B uint64 positions."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for b in range(positions.shape[0]):
        low, high = positions[b] & mask, positions[b] >> half
        for n in range(COUNTERS):
            drawn = philox_words(low, high, epoch, np.uint64(n), seed & mask, seed >> half)
            for k in range(4):
                words[n, k, b] = drawn[k]
