"""Compiled loops that normalise each image by its own mean, and the mode numbers that they use."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fastcell.ops.constants import mode_number
from fastcell.ops.cpu.compiled_loops import FAST, INLINE, INTERNAL, OPTIONS, entry

F32 = np.float32

DIVIDE, SUBTRACT, STANDARDIZE = mode_number("divide"), mode_number("subtract"), mode_number("standardize")

# Number of pixels that are summed in float32 before the sum is added in float64.
SUM_RUN = 1024


@njit(**INLINE, **FAST)
def gain_and_shift(mean, mode, eps):  # type: ignore[no-untyped-def]
    """Return the factor, and the value to subtract after multiplication; 1 and 0 for a mode that is applied later."""
    if mode == DIVIDE:
        return F32(1.0 / max(mean, eps)), F32(0.0)
    if mode == SUBTRACT:
        return F32(1.0), F32(mean)
    return F32(1.0), F32(0.0)


@njit(**INTERNAL, **FAST)
def shift_and_gain(source, mode, eps):  # type: ignore[no-untyped-def]
    """Return the value to subtract and the factor to apply after it, for one image of flat pixels (uint8 or float32).

    Differences from the first pixel are summed, so that the mean of a constant image is exact. The sums are float32
    within blocks of pixels, and float64 over the blocks.
    """
    pixels = source.shape[0]
    pivot = F32(source[0])
    total = 0.0
    for begin in range(0, pixels, SUM_RUN):
        run, run_total = source[begin : min(begin + SUM_RUN, pixels)], F32(0.0)
        for i in range(run.shape[0]):
            run_total += F32(run[i]) - pivot
        total += run_total
    mean = F32(pivot + total / pixels)
    if mode == DIVIDE:
        return F32(0.0), F32(1.0 / max(mean, eps))
    if mode == SUBTRACT:
        return mean, F32(1.0)
    total = 0.0
    for begin in range(0, pixels, SUM_RUN):
        run, run_total = source[begin : min(begin + SUM_RUN, pixels)], F32(0.0)
        for i in range(run.shape[0]):
            difference = F32(run[i]) - mean
            run_total += difference * difference
        total += run_total
    return mean, F32(1.0 / max(math.sqrt(total / pixels), eps))


@njit(**INTERNAL, **FAST)
def normalize_in_place(flat, shift, gain):  # type: ignore[no-untyped-def]
    """Normalise in place. A single array avoids the code for overlap that the compiler generates for two arrays."""
    for i in range(flat.shape[0]):
        flat[i] = (flat[i] - shift) * gain


@entry(**OPTIONS, **FAST)
def normalize_images(source, mode, eps, out):  # type: ignore[no-untyped-def]
    """Normalise each row of source (B, N) uint8 or float32 into out (B, N) float32; `out` may be `source`; N >= 1."""
    for b in range(source.shape[0]):
        pixels, normalized = source[b], out[b]
        shift, gain = shift_and_gain(pixels, mode, eps)
        for i in range(pixels.shape[0]):
            normalized[i] = (F32(pixels[i]) - shift) * gain
