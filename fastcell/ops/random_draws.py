"""Keys and counters of the random numbers of an augmentation.

Philox computes four 32-bit words from a 64-bit key and a counter of four words. The random numbers of a cell therefore
depend only on these:

=========  ===========================  ================================================
use        key                          counter
=========  ===========================  ================================================
changes    the seed                     position (low, high word), epoch, n = 0..2
noise      two words of the changes     y * Q + i, 0, 0, 0 (`fastcell.ops.cpu.noise`)
=========  ===========================  ================================================

``kernels/transform.cu`` uses the same keys and counters on the GPU.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcell.errors import invalid
from fastcell.ops.cpu.compiled_loops import OPTIONS, entry
from fastcell.ops.philox import philox_words

#: Counters per cell and epoch: n = 0 to COUNTERS - 1.
COUNTERS = 3


def change_words(seed: int, epoch: int, positions: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Compute the random words of the augmentation of some cells in one epoch.

    Args:
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        positions: (B,) integers >= 0, position of each cell in the epoch.

    Returns:
        (COUNTERS, 4, B) uint64 with 32 random bits in each element: the four words of each counter.

    Raises:
        ArgumentError: `seed`, `epoch` or a position is out of range.
    """
    if not 0 <= seed < 1 << 64:
        raise invalid("seed", "from 0 to 2**64 - 1", seed, "Choose another")
    if not 0 <= epoch < 1 << 32:
        raise invalid("epoch", "from 0 to 2**32 - 1", epoch, "Count epochs from 0")
    signed = np.asarray(positions)
    if signed.ndim != 1 or signed.dtype.kind not in "iu" or (signed.size and signed.min() < 0):
        rule = "a one-dimensional array of whole numbers >= 0"
        raise invalid("positions", rule, signed, "Give the place in the epoch's order")
    words = np.empty((COUNTERS, 4, len(signed)), np.uint64)
    _fill_words(signed.astype(np.uint64), np.uint64(epoch), np.uint64(seed), words)
    return words


def noise_keys(low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Join two random words of each cell into the 64-bit key of its noise, (B,) uint64."""
    return low | (high << np.uint64(32))


@entry(**OPTIONS)
def _fill_words(positions, epoch, seed, words):  # type: ignore[no-untyped-def]
    """Write the words of B uint64 positions to words uint64 (COUNTERS, 4, B)."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for b in range(positions.shape[0]):
        low, high = positions[b] & mask, positions[b] >> half
        for n in range(COUNTERS):
            drawn = philox_words(low, high, epoch, np.uint64(n), seed & mask, seed >> half)
            for k in range(4):
                words[n, k, b] = drawn[k]
