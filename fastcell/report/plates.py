"""Figures as files: PNG to look at, PDF to print, CSV with the numbers that are drawn, and a caption under each."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from matplotlib.figure import Figure

from fastcell.report.figures import save_figure


class Plates:
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
