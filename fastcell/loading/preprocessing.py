"""Preprocessing of every cell, the same in training and prediction; it is saved in the checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from fastcell.errors import DataError, invalid
from fastcell.ops.constants import FITS, MODES

NORMALIZATIONS = MODES


@dataclass(frozen=True)
class Preprocessing:
    """Settings that turn a ragged raw cell into a square, normalised image.

    Attributes:
        image_size: height and width of the square [px].
        fit: ``stretch`` (height and width to the square, as in the paper), ``contain`` (aspect ratio kept) or ``scale``
            (fixed pixels per micrometre, size kept). Pixels outside the cell get the median of its border.
        normalization: by the mean of the image: ``divide`` by it (the paper), ``subtract`` it, or ``standardize``
            (subtract it and divide by the standard deviation).
        antialias: apply a low-pass filter before down-scaling. The paper's code does not.
        scale_um_per_px: micrometres per output pixel for ``fit="scale"``; None uses one output pixel per raw pixel.
        window: (low, high) grey levels of a 16-bit source that map to 0 and 255; None for 8-bit sources.
        depth: bits per grey level from the decoder to the network: 8, or 16 to keep the full precision of a 16-bit
            source inside its window.

    Examples:
        >>> Preprocessing(image_size=64, fit="contain").to_dict()["fit"]
        'contain'
        >>> Preprocessing.from_dict({"image_size": 64}) == Preprocessing(image_size=64)
        True
    """

    image_size: int = 128
    fit: str = "stretch"
    normalization: str = "divide"
    antialias: bool = False
    scale_um_per_px: float | None = None
    window: tuple[float, float] | None = None
    depth: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.image_size, int) or not 8 <= self.image_size <= 1024:
            raise invalid("image_size", "a whole number from 8 to 1024", self.image_size, "128 is the paper's")
        if self.fit not in FITS:
            raise invalid("fit", f"one of {', '.join(FITS)}", self.fit, "Take stretch for what the paper does")
        if self.normalization not in NORMALIZATIONS:
            raise invalid(
                "normalization",
                f"one of {', '.join(NORMALIZATIONS)}",
                self.normalization,
                "The paper divides",
            )
        if self.scale_um_per_px is not None and not self.scale_um_per_px > 0:
            raise invalid("scale_um_per_px", "positive", self.scale_um_per_px, "Leave it out for raw pixels")
        if self.depth not in (8, 16) or isinstance(self.depth, bool):
            raise invalid("depth", "8 or 16", self.depth, "16 keeps the levels of 16-bit images, in twice the memory")
        if self.window is not None:
            object.__setattr__(self, "window", (float(self.window[0]), float(self.window[1])))

    def to_dict(self) -> dict[str, Any]:
        """Return plain types (str, int, float, bool, None, list), as ``torch.load(weights_only=True)`` requires."""
        values = asdict(self)
        values["window"] = None if self.window is None else list(self.window)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Create the settings from the result of `to_dict`.

        Raises:
            DataError: a key is unknown, so the values come from another version.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise DataError(f"preprocessing has unknown entries {unknown}. Use the version of fastcell that wrote it.")
        return cls(**values)
