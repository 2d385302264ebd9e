"""Records of cells to be stored: decode each cell once, measure it, and add it to the manifest or to the quarantine."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa

from fastcell.dataset.cell_hashes import hash_pixels
from fastcell.dataset.decode import DecodedCell, NeedsWindow, decode
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.grey_window import Window
from fastcell.dataset.schema import PITCHES, SCHEMA
from fastcell.errors import BadCell, invalid
from fastcell.ops.border import border_median
from fastcell.packing.quarantine import quarantine_row, quarantine_table
from fastcell.system.text import one_name

_COLLECTED = (
    "key",
    "offset",
    "bytes",
    "encoding",
    "height",
    "width",
    "depth",
    "channels",
    "um_per_px",
    "class",
    "group",
    "collection",
    "mean_intensity",
    "border_median",
    "block",
)


class Record(NamedTuple):
    """One source image that is to be stored in a shard.

    Attributes:
        key: path of the image in the source, with `/` between folders, e.g. `G1/a.png`.
        data: bytes of the file; or a (H, W) uint8 or uint16 array, with encoding `raw`; or the `BadCell` error raised
            while reading it.
        encoding: jpg, png, tif, npy or raw.
        class_name: name of the class; None if unlabelled.
        group: donor, run or source file; None if unknown.
        collection: name of the collection; None if unknown.
        um_per_px: micrometres per pixel; NaN if unknown.
        source: file that the image comes from, for the quarantine table.
    """

    key: str
    data: bytes | np.ndarray | BadCell
    encoding: str
    class_name: str | None = None
    group: str | None = None
    collection: str | None = None
    um_per_px: float = math.nan
    source: str = ""


class ShardResult(NamedTuple):
    """Contents of a written shard; cell_ids, block numbers and `first_cell` count from 0 within the shard.

    Attributes:
        name: file name of the shard.
        bytes: size of the file in bytes.
        rows: manifest rows (`SCHEMA`) in the order of writing.
        quarantine: rows of `QUARANTINE_SCHEMA`.
        blocks: rows of `BLOCKS_SCHEMA`; None in the cell layout.
        crc32: CRC-32 of the whole file; None for a tar that existed before.
        num_deep: number of 16-bit images that were decoded.
    """

    name: str
    bytes: int
    rows: pa.Table
    quarantine: pa.Table
    blocks: pa.Table | None = None
    crc32: int | None = None
    num_deep: int = 0


class CellTable:
    """Builder of the manifest rows and quarantine rows of one shard, held as columns.

    Args:
        shard: file name, relative to the data folder.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255, or None.
    """

    def __init__(self, shard: str, window: Window) -> None:
        self.shard = shard
        self.window = window
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLLECTED}
        self._append = [self._columns[name].append for name in _COLLECTED]
        self._hashes = {name: bytearray() for name in ("byte_hash", "pixel_hash")}
        self._names: dict[str | None, Any] = {}  # in the form that is stored
        self._bad: list[tuple[Any, ...]] = []
        self._deep: list[tuple[int, int]] = []
        self._deep_key = ""
        self.num_deep = 0

    def __len__(self) -> int:
        return len(self._columns["key"])

    def decode(self, record: Record, messages: DecoderMessages) -> DecodedCell | None:
        """Return the decoded cell, or None if it was quarantined or needs a window."""
        try:
            if isinstance(record.data, BadCell):
                raise record.data
            messages.forget()
            cell = decode(record.data, record.encoding, self.window)
            messages.check(record.data if isinstance(record.data, bytes) else b"")
            self.num_deep += cell.depth == 16
            return cell
        except NeedsWindow as need:
            self._deep_key = self._deep_key or record.key
            self._deep.append((need.low, need.high))
        except BadCell as bad:
            self.reject(record, bad.reason)
        return None

    def reject(self, record: Record, reason: str) -> None:
        """Add a record to the quarantine."""
        self._bad.append(
            quarantine_row(record.key, record.source, record.class_name, record.group, record.collection, reason)
        )

    def admit(
        self,
        record: Record,
        cell: DecodedCell,
        offset: int,
        stored: bytes | memoryview,
        block: int = -1,
        measured: tuple[float, float] | None = None,
    ) -> None:
        """Add the manifest row of a cell.

        Args:
            record: the source image.
            cell: its decoded pixels.
            offset: position of its stored bytes in the tar.
            stored: the stored bytes.
            block: number of its block; -1 in the cell layout.
            measured: mean and border median of the pixels, if they are known.
        """
        pixels = cell.pixels
        height, width = pixels.shape
        raw = block >= 0
        self._hashes["pixel_hash"] += hash_pixels(pixels)
        self._hashes["byte_hash"] += blake2b(stored, digest_size=16).digest()
        if measured is None:
            measured = cv2.sumElems(pixels)[0] / pixels.size, border_median(pixels)
        values = (
            one_name(record.key),
            offset,
            len(stored),
            "raw" if raw else "npy" if cell.encoding == "raw" else cell.encoding,
            height,
            width,
            8 if raw else cell.depth,
            1 if raw else cell.channels,
            record.um_per_px,
            self._name(record.class_name),
            self._name(record.group),
            self._name(record.collection),
            *measured,
            block,
        )
        for append, value in zip(self._append, values, strict=True):
            append(value)

    def _name(self, text: str | None) -> Any:
        """Return a name as data sets store it; equal names are one object."""
        found = self._names.get(text)
        return found if found is not None else self._names.setdefault(text, one_name(text))

    def rows(self) -> pa.Table:
        """Return the manifest rows, one per cell, as a table of `SCHEMA`.

        Raises:
            ArgumentError: If there were 16-bit cells and there is no window; the message gives the range of grey
                levels.
        """
        if self._deep:
            low, high = min(pair[0] for pair in self._deep), max(pair[1] for pair in self._deep)
            raise invalid(
                "--window",
                f"given for 16-bit cells ({len(self._deep):,} in {self.shard}, the first {self._deep_key!r}, "
                f"with grey levels from {low} to {high})",
                None,
                f"Give the levels that become black and white, e.g. --window {low} {max(high, low + 1)}",
            )
        num = len(self)
        columns: dict[str, Any] = {
            "cell_id": pa.array(np.arange(num)),
            "shard": pa.array([self.shard] * num, pa.string()),
            **{
                name: pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), num, [None, pa.py_buffer(bytes(hashes))])
                for name, hashes in self._hashes.items()
            },
        }
        for field in SCHEMA:
            if field.name in self._columns:
                columns[field.name] = pa.array(self._columns[field.name], field.type)
        return pa.Table.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)

    def quarantine(self) -> pa.Table:
        """Return the quarantined cells as a table of `QUARANTINE_SCHEMA`."""
        return quarantine_table(self._bad)


def check_levels(window: Window, um_per_px: float | None) -> None:
    """Check the arguments `--window` and `--um-per-px`.

    Raises:
        ArgumentError: If the window is not two finite grey levels >= 0 in increasing order, or `um_per_px` is not
            between a picometre and a metre.
    """
    if window is not None and not (all(map(math.isfinite, window)) and 0 <= window[0] < window[1]):
        raise invalid(
            "--window", "two grey levels, the lower one first", tuple(window), "For example --window 400 1400"
        )
    if um_per_px is not None and not PITCHES[0] <= um_per_px <= PITCHES[1]:
        raise invalid("--um-per-px", "micrometres from 1e-6 to 1e6", um_per_px, "Leave it out if it is unknown")
