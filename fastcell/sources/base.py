"""Interface of a source: a reader of one format that lists cells and reads their stored bytes or pixels.

A source is small and can be pickled. `scan` lists its cells and `load` reads one of them. `load` also works in a worker
on another machine if that machine has access to the same disk.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from fastcell.dataset.instrument_features import Features

ENCODING_OF_ENDING = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "tif": "tif", "tiff": "tif", "npy": "npy"}


class SourceItem(NamedTuple):
    """One cell of a source.

    Attributes:
        key: path of the cell in the source, with "/". For a cell in a container, `path/index`, with at least six
            digits.
        encoding: jpg, png, tif or npy, or raw for an array.
        class_name, group, collection: names; None if the cell has none.
        um_per_px: micrometres per pixel; NaN if unknown.
        place: position of the cell, used only by the source itself. For a cell in a container, the first entry is the
            path of the container.
    """

    key: str
    encoding: str
    class_name: str | None = None
    group: str | None = None
    collection: str | None = None
    um_per_px: float = math.nan
    place: tuple[int | str, ...] = ()


class Runs(NamedTuple):
    """Cells that are decoded together, e.g. a chunk of HDF5 or a page of tiles.

    Attributes:
        numbers: (N,) int64, run of each item, in the order of the items.
        num_bytes: size of all decoded cells together, in bytes.
    """

    numbers: np.ndarray
    num_bytes: int


class Rejected(NamedTuple):
    """A cell that is rejected before its bytes are read.

    Attributes:
        item: the cell.
        source: file that names the cell, for the quarantine table.
        reason: reason for the rejection.
    """

    item: SourceItem
    source: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """Result of a scan.

    Attributes:
        items: the cells, in an order that depends only on their keys; keys are unique.
        classes: class names in the order of their numbers; empty if no cell is labelled.
        splits: splits that the source defines: for each name the subset of each item, in the order of the items.
        rejected: cells for the quarantine.
        notes: notes for the user, one sentence each.
        features: features from the instrument; None if there are none.
        runs: groups of cells that should be read together, because reading a single one is expensive; None if each cell
            is read separately.
    """

    items: list[SourceItem]
    classes: list[str]
    splits: dict[str, list[str]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    features: Features | None = None
    runs: Runs | None = None


class Source(Protocol):
    """A reader of one format."""

    @property
    def name(self) -> str:
        """Name for the packed data set."""

    def describe(self) -> str:
        """Return format and path in one line."""

    def scan(self) -> Listing:
        """List the cells without reading their pixels.

        Raises:
            ArgumentError: If an argument does not fit the files.
            DataError: If the source cannot be read.
        """

    def load(self, item: SourceItem) -> bytes | np.ndarray:
        """Read one cell.

        Returns:
            The bytes of an image file, or pixels (H, W) uint8 or uint16.

        Raises:
            BadCell: If the cell is unusable, or too large for an image of a cell.
            OSError: If the file cannot be read.
        """

    def stamp(self, item: SourceItem) -> str:
        """Return a text that changes whenever the stored bytes of a cell change.

        The text consists of size and modification time of the file, so that the bytes need not be read.
        """


def file_stamp(path: str) -> str:
    """Return size (bytes) and modification time (ns) of a file as text, or the error message if they cannot be read."""
    try:
        status = os.stat(path)  # noqa: PTH116, called for up to a million files
    except OSError as error:
        return str(error.strerror)
    return f"{status.st_size} {status.st_mtime_ns}"


def encoding_of(name: str) -> str:
    """Return the image encoding for the extension of a name, in any case; empty for another kind of file."""
    return ENCODING_OF_ENDING.get(name.rpartition(".")[2].lower(), "") if "." in name else ""
