"""Open a TIFF with tifffile, and decode one of its images; every sample must have been decoded."""

from __future__ import annotations

import io
import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from operator import add
from typing import Any

import numpy as np
import tifffile

from fastcell.dataset.image_headers import MAX_FILE_BYTES
from fastcell.dataset.open_files import read_up_to, stamp_of
from fastcell.dataset.tiff.description import Description, read_description
from fastcell.dataset.tiff.directories import (
    DESCRIPTION_TAG,
    Directory,
    ReadAt,
    read_directory,
    read_layout,
    read_places,
    read_text,
    walk_directories,
)
from fastcell.dataset.tiff.pieces import decode_piece
from fastcell.dataset.tiff.supported import NONE, check_page
from fastcell.errors import BadCell

# Largest number of pixels that one stored byte can encode: LZW expands one byte to fewer than 4,096.
_DENSEST = 4096
_SMALL_PIXELS = 1 << 20
_X_RESOLUTION = 282
_SMALL_FILE_BYTES = 1 << 16  # a parsed page keeps the bytes of its file in memory
_MOST_PAGES = 256
_PAGES: dict[bytes, Any] = {}
_PAGES_LOCK = threading.Lock()
#: These hold what a cell needs of the file itself; special cases of some microscopes would read the whole file.
_NO_SPECIAL_CASES: dict[str, Any] = {"is_lsm": False, "is_ndpi": False, "is_scanimage": False}


class OpenTiff:
    """A TIFF whose pages are read by tifffile. It may be used by several threads.

    Args:
        source: path of a file, or its bytes.

    Raises:
        BadCell: the file is not a TIFF or is damaged.
        OSError: the file cannot be read.
    """

    def __init__(self, source: str | bytes) -> None:
        self._read: ReadAt
        if isinstance(source, str):
            self.size, self._read = stamp_of(source)[0], partial(read_up_to, source)
        else:
            self.size, self._read = len(source), lambda offset, num: source[offset : offset + num]
        self._layout = read_layout(self._read)
        self._source = source
        self._file: Any = None
        self._lock = threading.Lock()
        self._pages: dict[bytes, Any] = {}
        self._last: Directory | None = None
        self._key = f"{self._layout.order}{self._layout.is_big}".encode()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self._file.close()

    def directories(self) -> Iterator[Directory]:
        """Yield the directories of all pages; see `walk_directories`."""
        for directory in walk_directories(self._read, self.size):
            self._last = directory
            yield directory

    def checked_page(self, directory: Directory) -> Any:
        """Return a `tifffile.TiffPage` that describes the pixels of a directory.

        Pages that are decoded in the same way, of this file or of other small ones, share one such object.

        Raises:
            BadCell: the directory is damaged, or is of an unsupported kind.
        """
        if not directory.is_inline:
            return self._parse(directory)
        pages = _PAGES if self.size <= _SMALL_FILE_BYTES else self._pages
        key = directory.decoding + self._key
        page = pages.get(key)
        if page is None:
            page = self._parse(directory)
            with _PAGES_LOCK:
                pages[key] = page
                if len(pages) > _MOST_PAGES:
                    del pages[next(iter(pages))]
        return page

    def description(self, directory: Directory) -> Description:
        """Return the metadata in the first directory of the file."""
        entry = directory.entries.get(DESCRIPTION_TAG)
        text = "" if entry is None else read_text(self._read, self._layout, entry)
        samples = int(self.checked_page(directory).samplesperpixel)
        return read_description(text, samples, lambda: self._page(directory).tags.valueof(_X_RESOLUTION))

    def _parse(self, directory: Directory) -> Any:
        page = self._page(directory)
        # tifffile leaves out entries that it cannot read, and their values would be the default ones.
        if any(code not in page.tags for code in directory.codes):
            raise BadCell("damaged tif header")
        with _parsing():
            check_page(page)
            page.decode  # noqa: B018, made here, because several threads cannot make it at once
        return page

    def _page(self, directory: Directory) -> Any:
        with self._lock, _parsing():
            if self._file is None:
                file = self._source if isinstance(self._source, str) else io.BytesIO(self._source)
                self._file = tifffile.TiffFile(file, **_NO_SPECIAL_CASES)
            page = self._file.pages.first
            if page.offset != directory.place:
                self._file.filehandle.seek(directory.place)
                page = tifffile.TiffPage(self._file, index=0)
        return page

    def samples(self, place: int, number: int = 0) -> tuple[np.ndarray, Any]:
        """Decode one image.

        Args:
            place: offset of its directory in bytes.
            number: index of the image among those that follow one directory (ImageJ writes large files in this way).

        Returns:
            (H, W, S) uint8 or uint16 samples as they are stored, and a `tifffile.TiffPage` that describes them.

        Raises:
            BadCell: the page is damaged, or is of an unsupported kind.
            OSError: the file cannot be read.
        """
        directory = self._last
        if directory is None or directory.place != place:
            directory = read_directory(self._read, self.size, self._layout, place)
        page, offsets, counts = self._pieces(directory)
        if number:
            num = page.imagelength * page.imagewidth * (page.bitspersample // 8)
            if page.samplesperpixel != 1 or page.compression != NONE or not _follow_each_other(offsets, counts):
                raise BadCell("damaged tif header")
            offsets = tuple(offset + number * num for offset in offsets)
        self._check_pieces(page, offsets, counts)
        samples = np.empty(page.shaped, page.dtype)
        for index, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
            data = self._read(offset, count)
            if len(data) < count:
                raise BadCell("truncated")
            decode_piece(samples, page, index, data)
        height, width = samples.shape[2:4]
        if samples.shape[0] > 1:  # planes of one sample each
            return np.moveaxis(samples.reshape(-1, height, width), 0, 2), page
        return samples.reshape(height, width, -1), page

    def holds_images(self, directory: Directory, num: int) -> bool:
        """Return True if the pixels of `num` grey images without compression follow the directory's first strip."""
        page, offsets, counts = self._pieces(directory)
        if page.samplesperpixel != 1 or page.compression != NONE or not _follow_each_other(offsets, counts):
            return False
        num_bytes = page.imagelength * page.imagewidth * (page.bitspersample // 8)
        return int(offsets[0]) + num * num_bytes <= self.size

    def _pieces(self, directory: Directory) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
        """Return the page of a directory, and offsets and sizes of its strips or tiles in bytes."""
        page = self.checked_page(directory)
        offsets, counts = (324, 325) if page.is_tiled else (273, 279)
        if offsets not in directory.entries or (counts not in directory.entries and page.compression != NONE):
            raise BadCell("damaged tif header")
        places = read_places(self._read, self._layout, directory.entries[offsets])
        if counts in directory.entries:
            return page, places, read_places(self._read, self._layout, directory.entries[counts])
        return page, places, (math.prod(page.shape) * page.dtype.itemsize,) * len(places)

    def _check_pieces(self, page: Any, offsets: tuple[int, ...], counts: tuple[int, ...]) -> None:
        if len(offsets) != math.prod(page.chunked) or len(offsets) != len(counts):
            raise BadCell("damaged tif header")
        if min(offsets) < 1 or min(counts) < 1:
            raise BadCell("tif without the data of all strips or tiles")
        if max(map(add, offsets, counts)) > self.size:
            raise BadCell("truncated")
        total = sum(counts)
        if total > MAX_FILE_BYTES:
            raise BadCell(f"too large: {total:,} bytes")
        pixels = page.imagelength * page.imagewidth
        if pixels > max(_SMALL_PIXELS, _DENSEST * total):
            raise BadCell(f"truncated: {page.imagewidth} x {page.imagelength} pixels in {total} bytes")


def _follow_each_other(offsets: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    """Return True if strips follow each other, so that the pixels of further images may follow them."""
    return bool(offsets) and all(
        offsets[i] + counts[i] == offsets[i + 1] for i in range(min(len(offsets), len(counts)) - 1)
    )


@lru_cache(maxsize=16)
def _opened(path: str, stamp: tuple[int, int]) -> OpenTiff:
    return OpenTiff(path)


def open_tiff(path: str) -> OpenTiff:
    """Return the open TIFF at `path`; up to 16 files stay open.

    Raises:
        BadCell: the file is not a TIFF or is damaged.
        OSError: the file cannot be read.
    """
    return _opened(path, stamp_of(path))


@contextmanager
def _parsing() -> Iterator[None]:
    """Turn errors of tifffile into `BadCell`, and keep its log off the terminal: it quotes damaged files."""
    log = logging.getLogger("tifffile")
    before, log.disabled = log.disabled, True
    try:
        yield
    except (BadCell, OSError):
        raise
    except MemoryError:
        raise BadCell("damaged tif header") from None
    except Exception:  # noqa: BLE001, tifffile raises errors of many kinds on damaged directories
        raise BadCell("damaged tif header") from None
    finally:
        log.disabled = before
