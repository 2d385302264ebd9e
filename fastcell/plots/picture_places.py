"""Where a figure shows pictures of cells and their colour bars, kept in its PNG for pages with a dark theme."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.image import AxesImage

KEY = "Pictures"
"""Name of the text in the PNG that holds the places."""
_MOST_PLACES = 2_000
_COLORBAR = "<colorbar>"  # label that matplotlib gives the axes of a colour bar


class PicturePlace(NamedTuple):
    """A rectangle of a picture, as shares of its width and height from the upper left corner.

    Attributes:
        left, top, right, bottom: The edges, from 0 to 1.
    """

    left: float
    top: float
    right: float
    bottom: float


def picture_places(figure: Figure, dpi: float, pad_inches: float) -> list[PicturePlace]:
    """Return the places of images and colour bars in a figure of cells that is saved with ``bbox_inches="tight"``.

    Args:
        figure: The figure; its layout is made.
        dpi: Resolution of the saved figure, on which its layout depends [1/inch].
        pad_inches: Padding of the saved figure [inches].

    Returns:
        The places in drawing order; empty if no image is drawn in grey levels.
    """
    images = [image for axes in figure.axes for image in axes.images if isinstance(image, AxesImage)]
    if not any(image.cmap.name == "gray" for image in images):
        return []
    before = figure.dpi
    figure.set_dpi(dpi)
    try:
        figure.draw_without_rendering()
        renderer: Any = figure._get_renderer()  # type: ignore[attr-defined]
        whole = figure.get_tightbbox(renderer).padded(pad_inches)
        bars = [axes for axes in figure.axes if axes.get_label() == _COLORBAR]
        boxes = [artist.get_window_extent(renderer).frozen() for artist in (*images, *bars)]
    finally:
        figure.set_dpi(before)
    found = []
    for box in boxes:
        left, right = ((x / dpi - whole.x0) / whole.width for x in (box.x0, box.x1))
        bottom, top = ((whole.y1 - y / dpi) / whole.height for y in (box.y0, box.y1))
        found.append(PicturePlace(*(round(min(max(edge, 0.0), 1.0), 5) for edge in (left, top, right, bottom))))
    return found


def format_picture_places(places: list[PicturePlace]) -> str:
    """Return the places as the text of a PNG."""
    return json.dumps([list(place) for place in places], separators=(",", ":"))


def parse_picture_places(text: object) -> list[PicturePlace]:
    """Return the places in the text of a PNG; none if the text is not one that `format_picture_places` makes."""
    try:
        found = json.loads(text) if isinstance(text, str) else []
        places = [PicturePlace(*(float(edge) for edge in place)) for place in found[:_MOST_PLACES]]
    except (ValueError, TypeError, RecursionError):
        return []
    inside = all(math.isfinite(edge) and 0 <= edge <= 1 for place in places for edge in place)
    return places if inside else []
