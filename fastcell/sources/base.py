"""Interface of a source: a reader of one format that lists cells and reads their stored bytes or pixels.

A source is small and can be pickled. `scan` lists its cells and `load` reads one of them. `load` also works in a worker
on another machine if that machine has access to the same disk.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from fastcell.dataset.image_headers import TIFF_STARTS
from fastcell.dataset.rows.instrument_features import Features
from fastcell.errors import ArgumentError, BadCell, invalid
from fastcell.system.text import storable

ENCODING_OF_ENDING = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "tif": "tif", "tiff": "tif", "npy": "npy"}


Channel = int | str | None
"""Channel to read: its number from 0, or its name in OME-TIFF; None if there is one."""


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
        items: the cells, in an order that depends only on their keys; keys are unique. A list, or
            `fastcell.sources.listings.item_columns.ItemColumns`.
        classes: class names in the order of their numbers; empty if no cell is labelled.
        splits: splits that the source defines: for each name the subset of each item, in the order of the items.
        rejected: cells for the quarantine.
        notes: notes for the user, one sentence each.
        features: features from the instrument; None if there are none.
        runs: groups of cells that should be read together, because reading a single one is expensive; None if each cell
            is read separately.
    """

    items: Sequence[SourceItem]
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


def no_channel(num_channels: int, names: Sequence[str], path: str) -> ArgumentError:
    """Return the error for a file with several channels of which none was chosen.

    Args:
        num_channels: number of channels.
        names: their names; empty if the file does not name them.
        path: path of the file, for the message.
    """
    named = f", or one of {', '.join(names)}" if names else ""
    rule = f"the channel to read, 0 to {num_channels - 1}{named}"
    return invalid("--channel", rule, None, f"{path} has {num_channels} channels per cell")


def check_channel(channel: Channel, items: Sequence[SourceItem]) -> None:
    """Check that a chosen channel has an effect: that there is a TIFF.

    Raises:
        ArgumentError: If there is none.
    """
    if channel is not None and items and all(item.encoding != "tif" for item in items):
        got = storable(items[0].key)
        raise invalid("--channel", f"given for TIFF (the first image is {got})", channel, "Leave it out")


def channel_words(channel: Channel) -> str:
    """Return the channel for the description of a source; empty if there is none."""
    return "" if channel is None else f", channel {channel}"


def image_data(data: bytes, channel: Channel, key: str, mixed: bool = False) -> bytes | np.ndarray:
    """Return the data to store for an image file: its bytes, or the pixels of a TIFF, which is decoded once.

    Args:
        data: the file.
        channel: channel of a TIFF; None if there is one.
        key: path of the image, for messages.
        mixed: True to quarantine a TIFF with several channels instead of raising an error.

    Returns:
        The bytes, or grey levels (H, W) uint8 or uint16 of a TIFF.

    Raises:
        ArgumentError: If a TIFF has several channels and none is chosen.
        BadCell: If the TIFF is damaged, is of an unsupported kind or lacks the channel, or a channel is chosen for
            another kind of file.
    """
    if data[:4] not in TIFF_STARTS:
        if channel is not None:
            raise BadCell("no tif, of which a channel could be chosen")
        return data
    from fastcell.dataset.tiff.contents import NeedsChannel, read_single

    try:
        return read_single(data, channel)[0]
    except NeedsChannel as needed:
        if mixed:
            raise
        raise no_channel(needed.num_channels, needed.names, storable(key)) from None
