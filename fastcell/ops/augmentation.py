"""Random changes of a cell during training, drawn so that (seed, epoch, position) alone decides them.

Nothing here depends on the batch a cell comes in, on the number of ranks or on what was drawn before: a run that
resumes, or one with another batch size, sees every cell changed in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcell.errors import invalid
from fastcell.ops._cell_kernels import draw_words
from fastcell.ops.modes import FITS, MAX_BLUR_SIGMA
from fastcell.ops.philox import uniform


@dataclass(frozen=True)
class Augmentation:
    """Which random changes a training cell undergoes, and how strong they are; 0 or False switches one off.

    Horizontal is along the flow. All lengths are in the output square, so one setting suits cells of every size.

    Attributes:
        flip_horizontal: mirror left to right, for half of the cells.
        flip_vertical: mirror top to bottom, for half of the cells.
        rotation_deg: rotate by a uniform angle in [-r, r] [degrees], 0..180. With ``fit="stretch"`` the stretched
            square is rotated, with ``contain`` and ``scale`` the cell in its own proportions.
        translation: shift each axis by a uniform share in [-t, t] of the square's side, 0..0.5.
        scale: magnify by a uniform factor in [1 / (1 + s), 1 + s], s in 0..1.
        blur_sigma: largest standard deviation of a Gaussian blur [output px], 0..16; uniform in (0, max].
        blur_probability: share of the cells that are blurred, 0..1.
        noise_std: largest standard deviation of additive normal noise [grey levels of 0..255]; uniform in (0, max].
        noise_probability: share of the cells that get noise, 0..1.

    Raises:
        ArgumentError: a value breaks its rule.
    """

    flip_horizontal: bool = True
    flip_vertical: bool = True
    rotation_deg: float = 10.0
    translation: float = 0.05
    scale: float = 0.1
    blur_sigma: float = 1.0
    blur_probability: float = 0.2
    noise_std: float = 6.0
    noise_probability: float = 0.2

    def __post_init__(self) -> None:
        for name in ("flip_horizontal", "flip_vertical"):
            if not isinstance(getattr(self, name), bool):
                raise invalid(name, "true or false", getattr(self, name), "Flips have no strength")
        for name, most in (
            ("rotation_deg", 180.0),
            ("translation", 0.5),
            ("scale", 1.0),
            ("blur_sigma", MAX_BLUR_SIGMA),
            ("blur_probability", 1.0),
            ("noise_std", 255.0),
            ("noise_probability", 1.0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise invalid(name, f"a number from 0 to {most:g}", value, "0 switches it off")
            object.__setattr__(self, name, float(value))

    @classmethod
    def none(cls) -> Augmentation:
        """Return the configuration that changes nothing."""
        return cls(False, False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def is_none(self) -> bool:
        """Whether no cell is changed at all."""
        blurs = self.blur_sigma > 0 and self.blur_probability > 0
        adds_noise = self.noise_std > 0 and self.noise_probability > 0
        moves = self.rotation_deg > 0 or self.translation > 0 or self.scale > 0
        return not (self.flip_horizontal or self.flip_vertical or moves or blurs or adds_noise)

    def to_dict(self) -> dict[str, Any]:
        """Return plain types (bool, float) for a checkpoint or a configuration file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Draw:
    """What was drawn for B cells; every array is (B,).

    Attributes:
        flip_horizontal, flip_vertical: bool.
        rotation_rad: float64 [radians], counter-clockwise on the screen.
        shift_x, shift_y: float64, share of the square's side, to the right and down.
        scale: float64, magnification.
        blur_sigma: float32 [output px], 0 for none.
        noise_std: float32 [grey levels], 0 for none.
        noise_seed: uint64, key of the noise.
    """

    flip_horizontal: npt.NDArray[np.bool_]
    flip_vertical: npt.NDArray[np.bool_]
    rotation_rad: npt.NDArray[np.float64]
    shift_x: npt.NDArray[np.float64]
    shift_y: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    blur_sigma: npt.NDArray[np.float32]
    noise_std: npt.NDArray[np.float32]
    noise_seed: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.scale)


def draw(config: Augmentation, seed: int, epoch: int, positions: npt.ArrayLike) -> Draw:
    """Draw the changes of some cells of one epoch.

    The words of Philox4x32-10 with key `seed` and counter (position, position >> 32, epoch, n), n = 0..2, are turned
    into the values in a fixed order, so switching one change on or off leaves the others as they were.

    Args:
        config: strengths.
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        positions: (B,) whole numbers >= 0, the place of each cell in the epoch's order (or another stable identity).

    Returns:
        One value per cell; the same for the same (seed, epoch, position), whatever else is asked for in the call.

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
    words = np.empty((3, 4, len(signed)), np.uint64)
    draw_words(signed.astype(np.uint64), np.uint64(epoch), np.uint64(seed), words)
    u_horizontal, u_vertical, u_rotation, u_scale = (uniform(word) for word in words[0])
    u_x, u_y, u_blur, u_sigma = (uniform(word) for word in words[1])
    u_noise, u_std = uniform(words[2][0]), uniform(words[2][1])

    smallest = 1.0 / (1.0 + config.scale)
    blurred = u_blur < config.blur_probability
    noisy = u_noise < config.noise_probability
    return Draw(
        flip_horizontal=(u_horizontal < 0.5) & config.flip_horizontal,
        flip_vertical=(u_vertical < 0.5) & config.flip_vertical,
        rotation_rad=np.deg2rad(config.rotation_deg) * (2.0 * u_rotation - 1.0),
        shift_x=config.translation * (2.0 * u_x - 1.0),
        shift_y=config.translation * (2.0 * u_y - 1.0),
        scale=smallest + (1.0 + config.scale - smallest) * u_scale,
        blur_sigma=np.where(blurred, config.blur_sigma * u_sigma, 0.0).astype(np.float32),
        noise_std=np.where(noisy, config.noise_std * u_std, 0.0).astype(np.float32),
        noise_seed=words[2][2] | (words[2][3] << np.uint64(32)),
    )


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
