"""What a page is made of: paragraphs, tables and figures, as plain data that the template writes out."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from fastcell.errors import DataError

WIDE_INCHES = 6.5  # a wider figure takes the whole width of the page
_DPI = 150.0  # where a picture does not say


@dataclass(frozen=True)
class PageTable:
    """A table; a reader sorts it by a column.

    Attributes:
        header: names of the columns.
        rows: texts, as many in each row as in the header.
        caption: above it.
        num_text: how many columns, from the left, hold words and not numbers.
        foot: rows that stay at the end, whatever it is sorted by.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    num_text: int = 1
    foot: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        title: above it.
        source: data URI of the picture.
        inches: width that it was drawn for.
        caption: below it; empty where the picture carries its caption.
        alt: what a screen reader says.
    """

    title: str
    source: str
    inches: float
    caption: str = ""
    alt: str = ""


@dataclass
class Section:
    """A part of the page under one heading.

    Attributes:
        anchor: its name in links.
        title: the heading.
        paragraphs: text above the rest.
        tables: one after the other.
        pictures: likewise.
        html: trusted HTML below them, made by this package.
        code: texts that a reader copies: title and content.
    """

    anchor: str
    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[PageTable] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    html: str = ""
    code: list[tuple[str, str]] = field(default_factory=list)


def embed_png(path: Path, title: str, caption: str = "", alt: str = "") -> Picture:
    """A PNG file as a figure of the page.

    Raises:
        DataError: it cannot be read, or is no PNG.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            dots_per_inch = float(image.info.get("dpi", (_DPI,))[0]) or _DPI
            inches = image.width / dots_per_inch
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} must be a picture that fastcell drew, but: {error}. Draw it anew.") from None
    return Picture(title, data_uri(content), round(inches, 1), caption, alt or caption or title)


def data_uri(png: bytes) -> str:
    """Data URI of the bytes of a PNG."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def percent(share: float, decimals: int = 0) -> str:
    """A share from 0 to 1 as text, such as ``75.4 %`` with a space that does not break."""
    return f"{100 * share:.{decimals}f}\u00a0%"
