"""Read the metadata of a TIFF: pixel size, axes of its images and names of its channels."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from fastcell.system.text import storable

_OME_UNITS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
_IMAGEJ_UNITS = ("micron", "microns", "um", "µm", "\\u00B5m", "\xb5m")
_PITCHES = (1e-3, 1e3)
_MOST_SIZE = 10**9


class Description(NamedTuple):
    """Description of a whole TIFF file, from its first page.

    Attributes:
        um_per_px: micrometres per pixel; NaN if not given.
        images: number of images given by ImageJ, which may put all of them into one directory; 1 if not given.
        axes: letters and sizes of the axes along which the images are ordered, the fastest first; empty if not given.
            Samples of a pixel are no axis.
        channel_names: names of the channels; empty if not given.
        is_part: True if the file is one of several whose images together have these axes.
    """

    um_per_px: float = math.nan
    images: int = 1
    axes: tuple[tuple[str, int], ...] = ()
    channel_names: tuple[str, ...] = ()
    is_part: bool = False


def read_description(text: str, samples: int, resolution: Callable[[], Any]) -> Description:
    """Read the description that OME-TIFF, ImageJ and tifffile write.

    XML is searched with regular expressions instead of being parsed, so that entities in it cannot be expanded.

    Args:
        text: the description in the first page.
        samples: number of samples of a pixel.
        resolution: function that returns the tag XResolution, a pair of numbers.
    """
    if text.startswith("ImageJ="):
        return _imagej(text, resolution)
    if "<OME" in text[:4096]:
        return _ome(text, samples)
    if text.startswith("{"):
        return _shaped(text)
    return Description()


def _ome(text: str, samples: int) -> Description:
    found = [_fields(match) for match in re.findall(r"<(?:\w+:)?Pixels\s([^>]{0,4096})>", text)]
    if not found:
        return Description()
    first = found[0]
    try:
        pitch = float(first.get("PhysicalSizeX", "nan"))
    except ValueError:
        pitch = math.nan
    pitch *= _OME_UNITS.get(first.get("PhysicalSizeXUnit", "µm").replace("μ", "µ"), math.nan)
    shapes = [tuple((letter, _size(each.get(f"Size{letter}"))) for letter in "CZT") for each in found]
    axes = [
        (letter, max(1, num // samples) if letter == "C" else num)
        for letter in first.get("DimensionOrder", "XYCZT")[2:]
        for num in (_size(first.get(f"Size{letter}")),)
    ]
    if len(found) > 1 and all(shape == shapes[0] for shape in shapes):
        axes.append(("I", len(found)))
    channels = [_fields(match) for match in re.findall(r"<(?:\w+:)?Channel\s([^>]{0,4096})>", text)]
    names = tuple(storable(html.unescape(each.get("Name", ""))).strip() for each in channels)
    names = names[: len(names) // len(found)]
    files = set(re.findall(r'FileName\s*=\s*"([^"]{0,4096})"', text))
    return Description(_known_pitch(pitch), 1, tuple(axes), names if all(names) else (), len(files) > 1)


def _imagej(text: str, resolution: Callable[[], Any]) -> Description:
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    pitch = math.nan
    if fields.get("unit") in _IMAGEJ_UNITS:
        stated = resolution()
        if isinstance(stated, tuple) and len(stated) == 2 and all(stated):
            pitch = stated[1] / stated[0]
    letters = (("C", "channels"), ("Z", "slices"), ("T", "frames"))
    axes = tuple((letter, _size(fields.get(name))) for letter, name in letters)
    return Description(_known_pitch(pitch), _size(fields.get("images")), axes)


def _shaped(text: str) -> Description:
    """Read the description of tifffile: {"shape": [4, 40, 40], "axes": "CYX"}."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return Description()
    if not isinstance(fields, dict):
        return Description()
    shape, letters = fields.get("shape"), fields.get("axes")
    if not isinstance(shape, list) or not isinstance(letters, str) or len(shape) != len(letters):
        return Description()
    if not all(isinstance(num, int) and 0 < num < _MOST_SIZE for num in shape):
        return Description()
    axes = [(letter, num) for letter, num in zip(letters, shape, strict=True) if letter not in "YXS"]
    return Description(axes=tuple(reversed(axes)))


def _fields(attributes: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', attributes))


def _size(text: str | None) -> int:
    return max(1, int(text)) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else 1


def _known_pitch(pitch: float) -> float:
    return pitch if _PITCHES[0] <= pitch <= _PITCHES[1] else math.nan
