"""Figure files: PNG for the screen, PDF for print and CSV with the plotted numbers; each figure has a caption."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pyarrow as pa
import pyarrow.csv
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from fastcell.plots.picture_places import KEY, format_picture_places, picture_places
from fastcell.storage.places import check_output_folder
from fastcell.storage.whole_files import replace_file
from fastcell.system.text import printable_lines

DPI = 150
_CAPTION_SIZE = 7.5
_CHARACTERS_PER_INCH = 19.0  # at the font size of the caption
_PAGE_INCHES = 8.0  # a wider figure is reduced to this width on paper, so its caption is drawn larger
_MOST_NAME = 40
_PAD_INCHES = 0.08
_VECTOR: Any = {"pdf.fonttype": 42}  # embed TrueType fonts, so that text in the PDF stays text


class FigureFiles:
    """A folder of figures, each as NAME.png, NAME.pdf and NAME.csv.

    Args:
        folder: output folder; created if it does not exist.

    Attributes:
        captions: captions by name, in drawing order.
    """

    def __init__(self, folder: Path) -> None:
        check_output_folder("--out", folder, parents=True)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.captions: dict[str, str] = {}

    def add(self, name: str, figure: Figure, caption: str, data: pa.Table) -> None:
        """Write one figure.

        Args:
            name: name of the files.
            figure: figure with constrained layout, which reserves space for the caption.
            caption: description of the figure, with units and number of cells.
            data: every number in the figure.
        """
        save_figure(figure, self.folder / name, data, caption)
        self.captions[name] = caption


def save_figure(figure: Figure, stem: Path, data: pa.Table | None, caption: str) -> None:
    """Write a figure as ``STEM.png`` for the screen, ``STEM.pdf`` for print, and its data as ``STEM.csv``.

    Each file is written atomically: it is complete or absent. The same figure gives the same bytes. The PNG states
    where it shows images, see `fastcell.plots.picture_places`.

    Args:
        figure: figure with constrained layout, which reserves space for the caption.
        stem: path without extension.
        data: every number in the figure; None if the caller stores them in another file.
        caption: description of the figure, with units and number of cells.
    """
    shrinks = max(1.0, figure.get_figwidth() / _PAGE_INCHES)
    width = max(40, int(figure.get_figwidth() / shrinks * _CHARACTERS_PER_INCH))
    figure.supxlabel(
        textwrap.fill(caption, width), fontsize=shrinks * _CAPTION_SIZE, x=0.01, ha="left", linespacing=1.35
    )
    show_names_plainly(figure)
    shape: dict[str, Any] = {"dpi": 2 * DPI if max(figure.get_size_inches()) < 6 else DPI}
    shape |= {"bbox_inches": "tight", "pad_inches": _PAD_INCHES}
    with matplotlib.rc_context(_VECTOR):
        places = picture_places(figure, shape["dpi"], _PAD_INCHES)
        if places:
            figure.set_layout_engine("none")  # made again, the layout would differ a little
        png = {"Software": None} | ({KEY: format_picture_places(places)} if places else {})
        for kind, metadata in (("png", png), ("pdf", {"CreationDate": None})):
            replace_file(
                Path(f"{stem}.{kind}"),
                lambda file, kind=kind, metadata=metadata: figure.savefig(  # type: ignore[misc]
                    file, format=kind, metadata=metadata, **shape
                ),
            )
    if data is not None:
        replace_file(Path(f"{stem}.csv"), lambda file: pyarrow.csv.write_csv(data, file))


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whatever the extension of the path."""
    show_names_plainly(figure)
    figure.savefig(path, dpi=DPI, format="png", bbox_inches="tight", pad_inches=_PAD_INCHES)


def show_names_plainly(figure: Figure) -> None:
    """Draw names of classes, groups and data sets literally: ``$`` starts no formula, and control characters are
    escaped.

    Names along an axis are cut to 40 characters, because they reduce the space for the data.
    """
    numbers: set[Text] = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        formatter = axis.get_major_formatter()
        if isinstance(formatter, FuncFormatter):  # as `set_xticks` with labels makes it
            formatter.func = functools.partial(_name_at, formatter.func)
        else:
            numbers |= {*axis.get_majorticklabels()}
        numbers |= {*axis.get_minorticklabels()}
    for text in set(figure.findobj(Text)) - numbers:
        text.set_parse_math(False)
        text.set_text(printable_lines(text.get_text()))


def _name_at(names: Callable[[float, int | None], str], place: float, number: int | None = None) -> str:
    return "\n".join(
        line if len(line) <= _MOST_NAME else f"{line[: _MOST_NAME - 1]}…"
        for line in printable_lines(names(place, number)).split("\n")
    )
