"""What a source is: a reader of one format, the cells it lists, their stored bytes or pixels.

A source is small and can be pickled. `scan` lists its cells, `load` reads one of them; a worker on another machine that
sees the same disk can do the latter.
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

    key: its path in the source, with "/"; of a cell in a container `path/index`, six digits at least. encoding: jpg,
    png, tif, npy, or raw for an array. class_name, group, collection: None for none. um_per_px: micrometres per pixel,
    NaN for unknown. place: where the source finds the cell again, for its own use; of a cell in a container the path of
    that first.
    """

    key: str
    encoding: str
    class_name: str | None = None
    group: str | None = None
    collection: str | None = None
    um_per_px: float = math.nan
    place: tuple[int | str, ...] = ()


class Runs(NamedTuple):
    """Cells that are decoded together: a chunk of HDF5, a page of tiles.

    numbers: (N,) int64, run of each item, in the order of items. num_bytes: of all the cells, decoded.
    """

    numbers: np.ndarray
    num_bytes: int


class Rejected(NamedTuple):
    """A cell that is known to be unusable before its bytes are read."""

    item: SourceItem
    source: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What a scan found.

    Attributes:
        items: the cells, in an order that follows from their keys; keys are unique.
        classes: class names in the order of their numbers; empty where nothing is labelled.
        splits: splits that the source brings along: name -> subset of each item, in the order of items.
        rejected: cells for the quarantine.
        notes: what the user should know, one sentence each.
        features: of the instrument; None where it tells none.
        runs: cells that are dear to read one by one; None where each is read by itself.
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
        """One line: format and place."""

    def scan(self) -> Listing:
        """List the cells without reading their pixels. Raises ArgumentError or DataError."""

    def load(self, item: SourceItem) -> bytes | np.ndarray:
        """One cell: the bytes of an image file, or (H, W) uint8 or uint16. Raises OSError, or BadCell where there is
        no usable cell, or one too large to be one."""

    def stamp(self, item: SourceItem) -> str:
        """Text that changes when the stored bytes of a cell do, without reading them: size and time of its file."""


def file_stamp(path: str) -> str:
    """Size in bytes and time of the last change in ns of a file; why not, where it cannot be told."""
    try:
        status = os.stat(path)  # noqa: PTH116, for each of a million files
    except OSError as error:
        return str(error.strerror)
    return f"{status.st_size} {status.st_mtime_ns}"


def encoding_of(name: str) -> str:
    """Kind of image by the ending, in any case; empty for another kind of file."""
    return ENCODING_OF_ENDING.get(name.rpartition(".")[2].lower(), "") if "." in name else ""
