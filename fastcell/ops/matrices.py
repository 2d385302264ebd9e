"""Affine map from a cell to the square image: fit of the cell and augmentation."""

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
    """Compute the affine map from output pixels to source points, fit and augmentation combined.

    Pixel i of an axis covers [i, i + 1] and has its centre at i + 0.5. The cell is fitted, mirrored, rotated and
    magnified about the centre of the square, then shifted. Fits:

    - ``stretch``: [0, W] x [0, H] fills the square, as in the resize of OpenCV and of torch with
      ``align_corners=False``.
    - ``contain``: the longer axis fills the square; the aspect ratio is kept and the cell is centred.
    - ``scale``: `scale_um_per_px` micrometres per output pixel, centred; parts outside the square are cut off. A cell
      of unknown pixel size, or every cell if `scale_um_per_px` is None, gets one output pixel per raw pixel.

    Args:
        heights, widths: (B,) integers >= 1 [px].
        image_size: S, height and width of the square [px].
        fit: ``stretch``, ``contain`` or ``scale``.
        draw: augmentation of the same B cells; None for no augmentation.
        scale_um_per_px: micrometres per output pixel, > 0, for ``scale``.
        um_per_px: (B,) or scalar, micrometres per raw pixel; NaN or None if unknown.

    Returns:
        (B, 2, 3) float64: ``m @ (x + 0.5, y + 0.5, 1)`` is the source point of output pixel (x, y). Subtract 0.5 to get
        the source pixel index.

    Raises:
        ArgumentError: the fit is unknown, or sizes, scale or array lengths break their rule.
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
        # The y axis points down, so this is the inverse of a counter-clockwise rotation on the screen.
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
