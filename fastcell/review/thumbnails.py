"""Images of cells for the page: sheets of thumbnails, and single cells, made from the shards on demand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from fastcell.dataset.decode import decode
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import ShardFiles
from fastcell.errors import BadCell, DataError

SHEET_COLUMNS = 8
SHEET_CELLS = 64
"""Cells of a sheet: 8 rows of 8."""
SIZES = (32, 48, 64, 96, 128, 192, 256)
"""Sides of a thumbnail [px]."""

_Value = TypeVar("_Value")

_CACHE_BYTES = 96 << 20
_SHEET_BYTES = 64 << 20
_QUALITY = 90
_BACKGROUND = 0
_LEAST_RANGE = 8  # grey levels between the darkest and the brightest of a stretched cell


class Look(NamedTuple):
    """How thumbnails are drawn.

    Attributes:
        size: side of a thumbnail [px], one of `SIZES`.
        stretch: spread the grey levels of each cell from its 1 % to its 99 % quantile over the whole range.
        common: raw pixels per thumbnail side, the same for all cells; 0 fits each cell into its thumbnail.
    """

    size: int
    stretch: bool
    common: int


class Thumbnails:
    """Thumbnails of one data set, with a cache of recent cells and sheets. Safe to use from several threads.

    Args:
        manifest: the data set.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._encodings = manifest.column("encoding")
        self._sizes = np.stack([manifest.column("height"), manifest.column("width")], 1)
        window = manifest.info.window
        self._window = None if window is None else (window[0], window[1])
        self._files = ShardFiles(manifest, {})
        self._cells: ByteCache[npt.NDArray[np.uint8]] = ByteCache(_CACHE_BYTES)
        self._sheets: ByteCache[bytes] = ByteCache(_SHEET_BYTES)
        self._lock = threading.Lock()

    def cells(self, cell_ids: npt.NDArray[np.int64], keep: bool = True) -> list[npt.NDArray[np.uint8] | None]:
        """Return the pixels of cells, (H, W) uint8 each, in the given order; None for a cell that cannot be read.

        Args:
            cell_ids: (n,) cell_ids.
            keep: keep them in memory.
        """
        found: dict[int, npt.NDArray[np.uint8] | None] = {}
        for cell in cell_ids.tolist():
            if (pixels := self._cells.get(cell)) is not None:
                found[cell] = pixels
        missing = np.unique(np.array([cell for cell in cell_ids.tolist() if cell not in found], np.int64))
        if len(missing):
            with self._lock:
                stored = self._files.read(missing)
            for place, cell in enumerate(missing.tolist()):
                found[cell] = None
                if cell not in stored.reasons:
                    pixels = self._decoded(cell, stored.bytes_of(place))
                    found[cell] = pixels
                    if keep and pixels is not None:
                        self._cells.put(cell, pixels, pixels.nbytes)
        return [found[cell] for cell in cell_ids.tolist()]

    def sheet(self, name: str, cell_ids: npt.NDArray[np.int64], look: Look) -> bytes:
        """Return a JPEG of up to `SHEET_CELLS` thumbnails, row by row in rows of `SHEET_COLUMNS`.

        Args:
            name: key of these cells in this order and look; a sheet with the same key comes from the cache.
            cell_ids: (n,) cell_ids.
            look: settings of the drawing.
        """
        kept = self._sheets.get(name)
        if kept is not None:
            return kept
        size = look.size
        height = -(-len(cell_ids) // SHEET_COLUMNS) * size
        sheet = np.full((max(size, height), SHEET_COLUMNS * size), _BACKGROUND, np.uint8)
        for place, pixels in enumerate(self.cells(cell_ids)):
            y, x = place // SHEET_COLUMNS * size, place % SHEET_COLUMNS * size
            draw_thumbnail(pixels, look, sheet[y : y + size, x : x + size])
        data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        self._sheets.put(name, data, len(data))
        return data

    def picture(self, cell_id: int, stretch: bool) -> bytes | None:
        """Return a PNG of a cell with all its pixels; None if it cannot be read."""
        (pixels,) = self.cells(np.array([cell_id]))
        if pixels is None:
            return None
        return cv2.imencode(".png", stretched(pixels) if stretch else pixels)[1].tobytes()

    def common_side(self) -> int:
        """Return the raw pixels per thumbnail side with which 99 % of the cells fit if all are drawn at one scale."""
        return int(np.ceil(np.quantile(self._sizes.max(1), 0.99))) if len(self._sizes) else 1

    def _decoded(self, cell: int, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
        size = (int(self._sizes[cell, 0]), int(self._sizes[cell, 1]))
        encoding = self._encodings[cell]
        try:
            if self._manifest.info.layout == "block" or encoding == "raw":
                return data.reshape(size).copy()
            pixels = decode(data.tobytes(), encoding, self._window).pixels
        except (BadCell, DataError, ValueError):
            return None
        return pixels if pixels.shape == size else None


def draw_thumbnail(pixels: npt.NDArray[np.uint8] | None, look: Look, target: npt.NDArray[np.uint8]) -> None:
    """Draw a cell into a square (S, S) uint8; draw a cross if the cell cannot be read."""
    side = look.size
    if pixels is None:
        cv2.line(target, (0, 0), (side - 1, side - 1), 128, 1)
        cv2.line(target, (0, side - 1), (side - 1, 0), 128, 1)
        return
    height, width = pixels.shape
    scale = side / (look.common or max(height, width))
    shape = [max(1, round(length * scale)) for length in (height, width)]
    if max(shape) > side:  # larger than what all share: its middle is shown
        most = [min(length, max(1, int(side / scale))) for length in (height, width)]
        top, left = (height - most[0]) // 2, (width - most[1]) // 2
        pixels = pixels[top : top + most[0], left : left + most[1]]
        shape = [min(side, max(1, round(length * scale))) for length in most]
    if look.stretch:
        pixels = stretched(pixels)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(pixels, (shape[1], shape[0]), interpolation=way)
    top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
    target[top : top + shape[0], left : left + shape[1]] = small


def stretched(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a cell (H, W) with its grey levels from the 1 % to the 99 % quantile spread over 0 to 255."""
    counts = np.cumsum(np.bincount(pixels.ravel(), minlength=256))
    low = int(np.searchsorted(counts, 0.01 * counts[-1]))
    high = max(int(np.searchsorted(counts, 0.99 * counts[-1])), low + _LEAST_RANGE)
    table = np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    return np.asarray(table[pixels])


class ByteCache(Generic[_Value]):
    """Cache of recently used values, up to a number of bytes. Safe to use from several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._bytes = most_bytes, 0
        self._values: OrderedDict[object, tuple[_Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: object) -> _Value | None:
        """Return a value; None if it is not in the cache."""
        with self._lock:
            if name not in self._values:
                return None
            self._values.move_to_end(name)
            return self._values[name][0]

    def put(self, name: object, value: _Value, num_bytes: int) -> None:
        """Store a value, and remove the least recently used ones."""
        with self._lock:
            if name in self._values:
                self._bytes -= self._values.pop(name)[1]
            self._values[name] = (value, num_bytes)
            self._bytes += num_bytes
            while self._bytes > self._most and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][1]
