"""Names and limits shared by all implementations of an operation. This module is light to import."""

from __future__ import annotations

from typing import Literal, get_args

from fastcell.errors import invalid

FitName = Literal["stretch", "contain", "scale"]

NormalizationName = Literal["divide", "subtract", "standardize"]

#: Names of the modes; a kernel takes the position in this tuple. With m the mean and s the population standard
#: deviation of one output image: ``divide`` x / max(m, eps), ``subtract`` x - m, ``standardize`` (x - m) / max(s, eps).
MODES: tuple[NormalizationName, ...] = get_args(NormalizationName)

#: How a cell gets into the square; a kernel takes the position in this tuple. ``stretch``: both sides to the square,
#: ``contain``: the longer side, aspect kept, ``scale``: a fixed size of pixel.
FITS: tuple[FitName, ...] = get_args(FitName)

#: Smallest divisor, in grey levels; it keeps the result finite for an empty image.
EPS = 1e-6

#: Largest blur: standard deviation in output pixels. A stronger blur leaves nothing of the cell, and the radius
#: ceil(3 sigma) would grow without bound.
MAX_BLUR_SIGMA = 16.0


def mode_number(mode: str) -> int:
    """Return the number of a mode in the kernels.

    Args:
        mode: one of ``MODES``.

    Raises:
        ArgumentError: `mode` is unknown.
    """
    if mode not in MODES:
        raise invalid("mode", f"one of {', '.join(MODES)}", mode, "Choose one of them")
    return MODES.index(mode)


#: Image sizes [px] that the GPU kernel can be compiled for; the CPU accepts any size.
GPU_IMAGE_SIZES = tuple(range(16, 129, 8))

#: The same in words, for error messages.
GPU_SIZES_RULE = "a multiple of 8 from 16 to 128 on a GPU"
