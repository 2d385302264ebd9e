"""Read the description in the first page of a TIFF: pixel size, axes and number of images (OME-TIFF, ImageJ)."""

from __future__ import annotations

import math
import re
import struct
from typing import NamedTuple

from fastcell.dataset.tiff import CHANNELS_TAG, DESCRIPTION_TAG, X_RESOLUTION_TAG, Directory
from fastcell.errors import BadCell

_OME_UNITS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
_IMAGEJ_UNITS = ("micron", "microns", "um", "µm", "\\u00B5m", "\xb5m")
_PITCHES = (1e-3, 1e3)


class Description(NamedTuple):
    """Description of a whole TIFF file, from its first page.

    Attributes:
        um_per_px: micrometres per pixel; NaN if not given.
        images: number of images given by ImageJ, which may put all of them into one directory; 1 if not given.
        axes: letters and sizes of the axes along which the pages are ordered, the fastest first; empty if not given.
    """

    um_per_px: float = math.nan
    images: int = 1
    axes: tuple[tuple[str, int], ...] = ()


def read_description(page: Directory) -> Description:
    """Read the ImageDescription of OME-TIFF and ImageJ.

    XML is searched with regular expressions instead of being parsed, so that entities in it cannot be expanded.
    """
    if DESCRIPTION_TAG not in page.tags or page.tags[DESCRIPTION_TAG][0] not in (2, 7):
        return Description()
    try:
        text = page.data(DESCRIPTION_TAG).decode("utf-8", "replace").strip("\0 ")
    except BadCell:
        return Description()
    if text.startswith("ImageJ="):
        return _imagej(page, text)
    if "<OME" in text[:4096]:
        return _ome(text, page.number(CHANNELS_TAG, 1))
    return Description()


def _ome(text: str, samples: int) -> Description:
    found = re.search(r"<(?:\w+:)?Pixels\s([^>]{0,4096})>", text)
    if not found:
        return Description()
    fields = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', found[1]))
    try:
        pitch = float(fields.get("PhysicalSizeX", "nan"))
    except ValueError:
        pitch = math.nan
    pitch *= _OME_UNITS.get(fields.get("PhysicalSizeXUnit", "µm").replace("μ", "µ"), math.nan)
    axes = []
    for letter in fields.get("DimensionOrder", "XYCZT")[2:]:
        size = fields.get(f"Size{letter}", "1")
        num = int(size) if re.fullmatch(r"[0-9]{1,9}", size) else 1
        axes.append((letter, max(1, num // samples) if letter == "C" else num))
    return Description(_known_pitch(pitch), 1, tuple(axes))


def _imagej(page: Directory, text: str) -> Description:
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def count(name: str) -> int:
        value = fields.get(name, "1")
        return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else 1

    pitch = math.nan
    if fields.get("unit") in _IMAGEJ_UNITS and page.tags.get(X_RESOLUTION_TAG, (0, 0, 0))[:2] == (5, 1):
        above, below = struct.unpack(page.order + "II", page.data(X_RESOLUTION_TAG))
        pitch = below / above if above else math.nan
    axes = (("C", count("channels")), ("Z", count("slices")), ("T", count("frames")))
    return Description(_known_pitch(pitch), count("images"), axes)


def _known_pitch(pitch: float) -> float:
    return pitch if _PITCHES[0] <= pitch <= _PITCHES[1] else math.nan
