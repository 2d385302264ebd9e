"""Figures as files: PNG to look at, PDF to print, CSV with the numbers that are drawn, and a caption under each."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import pyarrow as pa
import pyarrow.csv
from matplotlib.figure import Figure

from fastcell.storage.whole_files import replace_file

DPI = 150
_CAPTION_SIZE = 7.5
_CHARACTERS_PER_INCH = 19.0  # of the caption's size
_VECTOR: Any = {"pdf.fonttype": 42}  # text stays text


class FigureFiles:
    """A folder of figures, each as NAME.png, NAME.pdf and NAME.csv.

    Args:
        folder: where they go; made if need be.

    Attributes:
        captions: name to caption, in the order of drawing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.captions: dict[str, str] = {}

    def add(self, name: str, figure: Figure, caption: str, data: pa.Table) -> None:
        """Write one figure.

        Args:
            name: of the files.
            figure: with the constrained layout, so that it makes room for the caption.
            caption: what is drawn, with units and number of cells.
            data: every number that is drawn.
        """
        save_figure(figure, self.folder / name, data, caption)
        self.captions[name] = caption


def save_figure(figure: Figure, stem: Path, data: pa.Table | None, caption: str) -> None:
    """Write a figure as ``STEM.png`` to look at, ``STEM.pdf`` to print, and the data that it shows as ``STEM.csv``.

    Each file is there whole or not at all. The same figure gives the same bytes.

    Args:
        figure: with the constrained layout, so that it makes room for the caption.
        stem: path without ending.
        data: every number that is drawn; None where the caller has them in a file beside the figure.
        caption: what is drawn, with units and number of cells.
    """
    width = max(40, int(figure.get_figwidth() * _CHARACTERS_PER_INCH))
    figure.supxlabel(textwrap.fill(caption, width), fontsize=_CAPTION_SIZE, x=0.01, ha="left", linespacing=1.35)
    shape: dict[str, Any] = {"dpi": 2 * DPI if max(figure.get_size_inches()) < 6 else DPI}
    shape |= {"bbox_inches": "tight", "pad_inches": 0.08}
    with matplotlib.rc_context(_VECTOR):
        for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
            replace_file(
                Path(f"{stem}.{kind}"),
                lambda file, kind=kind, metadata=metadata: figure.savefig(  # type: ignore[misc]
                    file, format=kind, metadata=metadata, **shape
                ),
            )
    if data is not None:
        replace_file(Path(f"{stem}.csv"), lambda file: pyarrow.csv.write_csv(data, file))


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whatever its name ends in."""
    figure.savefig(path, dpi=DPI, format="png", bbox_inches="tight", pad_inches=0.08)
