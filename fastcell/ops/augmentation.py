"""Random changes of a cell during training, which depend only on (seed, epoch, position).

They do not depend on the batch of a cell, the number of ranks or earlier draws. A resumed run, or a run with another
batch size, changes every cell in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcell.errors import invalid
from fastcell.ops.constants import MAX_BLUR_SIGMA
from fastcell.ops.philox import uniform
from fastcell.ops.random_draws import change_words, noise_keys


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the random changes of training cells; 0 or False disables a change.

    Horizontal is the direction of flow. All lengths refer to the output square, so that they suit cells of every size.

    Attributes:
        flip_horizontal: mirror left to right, for half of the cells.
        flip_vertical: mirror top to bottom, for half of the cells.
        rotation_deg: rotate by a uniform angle in [-r, r] [degrees], 0..180. With ``fit="stretch"`` the stretched
            square is rotated; with ``contain`` and ``scale`` the cell keeps its proportions.
        translation: shift each axis by a uniform share in [-t, t] of the square's side, 0..0.5.
        scale: magnify by a uniform factor in [1 / (1 + s), 1 + s], s in 0..1.
        blur_sigma: largest standard deviation of a Gaussian blur [output px], 0..16; uniform in (0, max].
        blur_probability: share of the cells that are blurred, 0..1.
        noise_std: largest standard deviation of additive normal noise [grey levels of 0..255]; uniform in (0, max].
        noise_probability: share of the cells that get noise, 0..1.

    Raises:
        ArgumentError: a value breaks its rule.

    Examples:
        >>> gentle = Augmentation(rotation_deg=0, noise_std=0)
        >>> gentle.flip_vertical, gentle.is_none
        (True, False)
        >>> Augmentation.none().is_none
        True
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
                raise invalid(name, f"a number from 0 to {most:g}", value, "0 disables it")
            object.__setattr__(self, name, float(value))

    @classmethod
    def none(cls) -> Augmentation:
        """Return the configuration that changes nothing."""
        return cls(
            flip_horizontal=False,
            flip_vertical=False,
            rotation_deg=0.0,
            translation=0.0,
            scale=0.0,
            blur_sigma=0.0,
            blur_probability=0.0,
            noise_std=0.0,
            noise_probability=0.0,
        )

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, float]) -> Augmentation:
        """Return the configuration from numbers by attribute name; 0 and 1 stand for the flips."""
        values: dict[str, Any] = dict(numbers)
        flips = {field.name for field in fields(cls) if isinstance(field.default, bool)}
        return cls(**{name: bool(value) if name in flips else value for name, value in values.items()})

    @property
    def is_none(self) -> bool:
        """True if no cell is changed."""
        blurs = self.blur_sigma > 0 and self.blur_probability > 0
        adds_noise = self.noise_std > 0 and self.noise_probability > 0
        moves = self.rotation_deg > 0 or self.translation > 0 or self.scale > 0
        return not (self.flip_horizontal or self.flip_vertical or moves or blurs or adds_noise)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain types (bool, float), for a checkpoint or a configuration file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Draw:
    """Random values drawn for B cells; every array is (B,).

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
    """Draw the random changes of cells of one epoch.

    The words of `fastcell.ops.random_draws.change_words` become the values in a fixed order, so that enabling or
    disabling one change does not alter the others.

    Args:
        config: strengths.
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        positions: (B,) integers >= 0, position of each cell in the order of the epoch (or another stable identity).

    Returns:
        One value per cell, which depends only on (seed, epoch, position).

    Raises:
        ArgumentError: seed, epoch or a position is out of range.
    """
    words = change_words(seed, epoch, positions)
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
        noise_seed=noise_keys(words[2][2], words[2][3]),
    )
