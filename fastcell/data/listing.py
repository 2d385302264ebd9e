"""What a source is: a reader of one format, the cells it lists, their stored bytes.

A source is small and can be pickled. `scan` lists its cells, `load` reads the stored bytes of one of them; a worker on
another machine that sees the same disk can do the latter.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

ENCODINGS = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "tif": "tif", "tiff": "tif", "npy": "npy"}


class SourceItem(NamedTuple):
    """One cell of a source.

    key: its path in the source, with "/". encoding: jpg, png, tif or npy. class_name, group, collection: None for none.
    um_per_px: micrometres per pixel, NaN for unknown.
    """

    key: str
    encoding: str
    class_name: str | None = None
    group: str | None = None
    collection: str | None = None
    um_per_px: float = math.nan


class Rejected(NamedTuple):
    """A cell that is known to be unusable before its bytes are read."""

    item: SourceItem
    source: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What a scan found.

    Attributes:
        items: the cells, sorted by key; keys are unique.
        classes: class names in the order of their numbers; empty where nothing is labelled.
        splits: splits that the source brings along: name -> side of each item, in the order of items.
        rejected: cells for the quarantine.
        notes: what the user should know, one sentence each.
    """

    items: list[SourceItem]
    classes: list[str]
    splits: dict[str, list[str]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Source(Protocol):
    """A reader of one format."""

    @property
    def name(self) -> str:
        """Name for the packed data set."""

    def describe(self) -> str:
        """One line: format and place."""

    def scan(self) -> Listing:
        """List the cells without reading their pixels. Raises ArgumentError or DataError."""

    def load(self, item: SourceItem) -> bytes:
        """Stored bytes of one cell. Raises OSError, or BadCell for a file too large to be a cell."""

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
    return ENCODINGS.get(name.rpartition(".")[2].lower(), "") if "." in name else ""
