"""The affine map that takes a cell into the square: how it is fitted, and how an augmentation moves it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcell.errors import invalid
from fastcell.ops.augmentation import Draw
from fastcell.ops.constants import FITS


def matrices(
    heights: npt.ArrayLike,
    widths: npt.ArrayLike,
    image_size: int,
    fit: str = "stretch",
    draw: Draw | None = None,
    scale_um_per_px: float | None = None,
    um_per_px: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Compute the one affine map that takes every output pixel to its source point, fit and augmentation together.

    Pixel i of an axis covers [i, i + 1], centre at i + 0.5. The cell is fitted, mirrored, rotated and magnified about
    the square's centre, then shifted. Fits:

    - ``stretch``: [0, W] x [0, H] fills the square; the resize of OpenCV and of torch with ``align_corners=False``.
    - ``contain``: the longer side fills the square, aspect kept, centred.
    - ``scale``: `scale_um_per_px` micrometres per output pixel, centred; what does not fit is cut. A cell whose size
      is unknown, or every cell if `scale_um_per_px` is None, gets one output pixel per raw pixel.

    Args:
        heights, widths: (B,) whole numbers >= 1 [px].
        image_size: S, side of the square [px].
        fit: ``stretch``, ``contain`` or ``scale``.
        draw: augmentation of the same B cells; None for none.
        scale_um_per_px: micrometres per output pixel, > 0, for ``scale``.
        um_per_px: (B,) or scalar, micrometres per raw pixel; NaN or None for unknown.

    Returns:
        (B, 2, 3) float64: ``m @ (x + 0.5, y + 0.5, 1)`` is the source point of output pixel (x, y); the index of the
        source pixel is that minus 0.5.

    Raises:
        ArgumentError: unknown fit, or sizes, scale or lengths that break their rule.
    """
    height, width = np.asarray(heights, dtype=np.float64), np.asarray(widths, dtype=np.float64)
    if height.ndim != 1 or height.shape != width.shape:
        raise invalid("heights and widths", "of one length", (height.shape, width.shape), "Give one size per cell")
    if height.size and not min(height.min(), width.min()) >= 1:
        raise invalid("heights and widths", "at least 1", min(height.min(), width.min()), "Leave empty cells out")
    if image_size < 1:
        raise invalid("image_size", "at least 1", image_size, "128 is the paper's")
    if draw is not None and len(draw) != len(height):
        raise invalid("draw", f"of {len(height)} cells", len(draw), "Draw for the same cells")
    base_x, base_y = _source_px_per_output_px(height, width, image_size, fit, scale_um_per_px, um_per_px)

    out = np.zeros((len(height), 2, 3))
    out[:, 0, 0], out[:, 1, 1] = base_x, base_y
    centre = image_size / 2.0
    start_x = start_y = np.full(len(height), -centre)
    if draw is not None:
        mirror_x = np.where(draw.flip_horizontal, -1.0, 1.0) * base_x / draw.scale
        mirror_y = np.where(draw.flip_vertical, -1.0, 1.0) * base_y / draw.scale
        cosine, sine = np.cos(draw.rotation_rad), np.sin(draw.rotation_rad)
        # The y axis points down, so the inverse of a counter-clockwise turn on the screen is this one.
        out[:, 0, 0], out[:, 0, 1] = mirror_x * cosine, -mirror_x * sine
        out[:, 1, 0], out[:, 1, 1] = mirror_y * sine, mirror_y * cosine
        start_x = -centre - draw.shift_x * image_size
        start_y = -centre - draw.shift_y * image_size
    out[:, 0, 2] = width / 2.0 + out[:, 0, 0] * start_x + out[:, 0, 1] * start_y
    out[:, 1, 2] = height / 2.0 + out[:, 1, 0] * start_x + out[:, 1, 1] * start_y
    return out


def _source_px_per_output_px(
    height: npt.NDArray[np.float64],
    width: npt.NDArray[np.float64],
    image_size: int,
    fit: str,
    scale_um_per_px: float | None,
    um_per_px: npt.ArrayLike | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if fit == "stretch":
        return width / image_size, height / image_size
    if fit == "contain":
        both = np.maximum(width, height) / image_size
        return both, both
    if fit != "scale":
        raise invalid("fit", f"one of {', '.join(FITS)}", fit, "Take stretch for what the paper does")
    both = np.ones_like(height)
    if scale_um_per_px is not None:
        if not scale_um_per_px > 0:
            raise invalid("scale_um_per_px", "positive", scale_um_per_px, "Leave it out for raw pixels")
        raw = np.broadcast_to(np.asarray(np.nan if um_per_px is None else um_per_px, dtype=np.float64), height.shape)
        if (raw <= 0).any():
            raise invalid("um_per_px", "positive, or NaN for unknown", raw.min(), "Correct the manifest")
        both = np.where(np.isnan(raw), 1.0, scale_um_per_px / raw)
    return both, both
