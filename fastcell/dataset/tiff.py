"""Read TIFF files: the header of a single image, the pages of a stack without decoding them, and one page as a file.

Formats: TIFF 6.0 and BigTIFF. Every offset and count is checked against the size of the file before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fastcell.dataset.image_headers import MAX_FILE_BYTES, MAX_PIXELS, ImageHeader
from fastcell.dataset.open_files import damaged, read_at, read_up_to, stamp_of
from fastcell.errors import BadCell

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
DESCRIPTION_TAG, CHANNELS_TAG, X_RESOLUTION_TAG = 270, 277, 282
_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
_STRIPS, _ROWS, _STRIP_BYTES, _FORMAT = 273, 278, 279, 339
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_COPIED = (256, 257, 258, 259, 262, 266, 277, 278, 284, 292, 293, 317, 320, 322, 323, 338, 339, 347, 529, 530, 532)
_USED = {*_COPIED, _KIND, DESCRIPTION_TAG, _STRIPS, _STRIP_BYTES, X_RESOLUTION_TAG, _TILES, _TILE_BYTES}
_PEEKED = (_WIDTH, _HEIGHT, _BITS, CHANNELS_TAG, _ROWS, _TILE_WIDTH, _TILE_HEIGHT)
_PEEKED_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_TAGS = 512
_DIRECTORY_BYTES = 512  # holds most directories, so that one read is enough
_MOST_TEXT = 1 << 20
_MOST_PIECES = 1 << 16
_REDUCED = 1
_MOST_PIECE_PIXELS = 1 << 24


def peek_tif(data: bytes) -> ImageHeader:
    """Read size and number of channels from the first image directory of a TIFF or BigTIFF, and check its bit depth.

    Args:
        data: the file.

    Raises:
        BadCell: the file is truncated or damaged, has neither 8 nor 16 bits, or has too large strips or tiles.
    """
    tags = _tif_tags(data)
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise BadCell("damaged tif header")
    bits = tags.get(_BITS, 1)
    if bits not in (8, 16):
        raise BadCell(f"{bits}-bit tif, not 8 or 16")
    height, width = tags[_HEIGHT], tags[_WIDTH]
    # The decoder allocates memory for whole strips or tiles, even if the image fills only a part of one.
    rows = tags.get(_TILE_HEIGHT, tags.get(_ROWS, height))
    columns = tags.get(_TILE_WIDTH, width)
    if rows != 0xFFFFFFFF and rows * columns > max(_MOST_PIECE_PIXELS, 4 * height * width):
        raise BadCell(f"too large: tif in pieces of {columns} x {rows} pixels")
    return ImageHeader(height, width, min(tags.get(CHANNELS_TAG, 1), 127))


def _tif_tags(data: bytes) -> dict[int, int]:
    """Return the first value of each tag in `_PEEKED`. Of repeated tags the first entry counts, as in libtiff."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    wide = "Q" if big else "I"
    tags: dict[int, int] = {}
    try:
        (start,) = struct.unpack_from(order + wide, data, 8 if big else 4)
        (num,) = _unpack(order + ("Q" if big else "H"), data, start)
        if num > _MOST_TAGS:
            raise BadCell("damaged tif header")
        first, step = (start + 8, 20) if big else (start + 2, 12)
        for place in range(first, first + step * num, step):
            tag, kind, count = struct.unpack_from(order + "HH" + wide, data, place)
            if tag not in _PEEKED or tag in tags:
                continue
            if kind not in _PEEKED_TYPES or not count:
                raise BadCell("damaged tif header")
            form = order + _PEEKED_TYPES[kind]
            value = place + (12 if big else 8)
            if struct.calcsize(form) * count > (8 if big else 4):  # the field holds an offset to the values
                (value,) = struct.unpack_from(order + wide, data, value)
            (tags[tag],) = _unpack(form, data, value)
    except struct.error:
        raise BadCell("truncated") from None
    return tags


def _unpack(form: str, data: bytes, place: int) -> tuple[int, ...]:
    if place > len(data):  # unpack_from does not accept 64-bit offsets
        raise BadCell("truncated")
    return struct.unpack_from(form, data, place)


class Directory(NamedTuple):
    """Image directory of one page.

    Attributes:
        path: path of the file.
        place: offset of the directory in bytes.
        order: byte order, `<` or `>`.
        tags: by tag number: type, count, and the offset of the values, or the values themselves if they fit into the
            directory.
    """

    path: str
    place: int
    order: str
    tags: dict[int, tuple[int, int, int | bytes]]

    def numbers(self, tag: int, most: int = _MOST_PIECES) -> tuple[int, ...]:
        """Return the integers of a tag; an empty tuple if the tag is missing.

        Args:
            tag: number of the tag.
            most: largest permitted number of values.

        Raises:
            BadCell: the values are not integers, or there are more than `most`.
        """
        if tag not in self.tags:
            return ()
        kind, count, place = self.tags[tag]
        if kind not in _WHOLE or count > most:
            raise BadCell("damaged tif header")
        num = count * _SIZES[kind]
        data = place[:num] if isinstance(place, bytes) else read_at(self.path, place, num)
        return struct.unpack(f"{self.order}{count}{_WHOLE[kind]}", data)

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first integer of a tag, or `default` if the tag is missing.

        Raises:
            BadCell: the value is not an integer.
        """
        found = self.numbers(tag)
        return found[0] if found else default

    def data(self, tag: int) -> bytes:
        """Return the bytes of a tag's values, at most 1 MiB."""
        kind, count, place = self.tags[tag]
        num = min(count * _SIZES[kind], _MOST_TEXT)
        return place[:num] if isinstance(place, bytes) else read_at(self.path, place, num)

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.number(_HEIGHT), self.number(_WIDTH)

    @property
    def is_reduced(self) -> bool:
        """True if the page is a smaller copy of another page."""
        return bool(self.number(_KIND) & _REDUCED)


def walk_pages(path: str) -> Iterator[Directory]:
    """Yield the pages of a TIFF in the order of their chain.

    Raises:
        DataError: the file is not a TIFF, or the chain of pages leaves the file or forms a circle.
    """
    try:
        size = stamp_of(path)[0]
        order, big, place = _start(path)
        seen = set()
        while place:
            if place in seen or place + 8 > size:
                raise BadCell("a page lies outside of the file" if place not in seen else "its pages form a circle")
            seen.add(place)
            page, place = _read(path, place, order, big, size)
            yield page
    except (BadCell, struct.error) as error:
        raise damaged(path, error) from None


def read_page(path: str, place: int) -> Directory:
    """Read the page whose directory is at offset `place`.

    Raises:
        BadCell: the page is damaged.
    """
    try:
        order, big, _ = _known_start(path, stamp_of(path))
        return _read(path, place, order, big, stamp_of(path)[0])[0]
    except struct.error:
        raise BadCell("damaged tif header") from None


def load_page(page: Directory, number: int = 0) -> np.ndarray | bytes:
    """Read the pixels of a page.

    Args:
        page: to read.
        number: index of the image among those that follow one directory (ImageJ writes large files in this way).

    Returns:
        (H, W) uint8 or uint16 if the page holds uncompressed grey pixels in strips; otherwise a TIFF file of this page
        alone.

    Raises:
        BadCell: the page is damaged or too large.
        OSError: the file cannot be read.
    """
    height, width = page.sides
    if not 0 < height * width <= MAX_PIXELS:
        raise BadCell(f"too large: {width} x {height} pixels" if height * width else "no pixels")
    bits, tiled = page.number(_BITS, 1), _TILES in page.tags
    plain = (
        page.number(_COMPRESSION, 1) == 1
        and bits in (8, 16)
        and page.number(CHANNELS_TAG, 1) == 1
        and page.number(_FORMAT, 1) == 1
        and page.number(_PHOTOMETRIC, 1) in (0, 1)
        and page.number(_FILL_ORDER, 1) == 1
        and not tiled
    )
    places = page.numbers(_TILES if tiled else _STRIPS)
    sizes = page.numbers(_TILE_BYTES if tiled else _STRIP_BYTES)
    if not plain:
        return _single(page, places, sizes, tiled)
    num = height * width * bits // 8
    if number:
        if not is_contiguous(page):
            raise BadCell("damaged tif header")
        places, sizes = (places[0] + number * num,), (num,)
    if len(places) == 1:
        data = read_at(page.path, places[0], num)
    else:
        if len(places) != len(sizes) or sum(sizes) < num:
            raise BadCell("truncated")
        data = _gather(page.path, places, sizes)[:num]
    pixels = np.frombuffer(data, f"{page.order}u{bits // 8}").reshape(height, width)
    return np.iinfo(pixels.dtype).max - pixels if page.number(_PHOTOMETRIC, 1) == 0 else pixels


def is_contiguous(page: Directory) -> bool:
    """Return True if the pixels of a page are contiguous, so that the pixels of further images may follow them."""
    places, sizes = page.numbers(_STRIPS), page.numbers(_STRIP_BYTES)
    return bool(places) and all(places[i] + sizes[i] == places[i + 1] for i in range(min(len(places), len(sizes)) - 1))


def image_bytes(page: Directory) -> int:
    """Return the size of one uncompressed image in bytes."""
    height, width = page.sides
    return height * width * max(page.number(_BITS, 8) // 8, 1)


def first_strip(page: Directory) -> int:
    """Return the offset of the pixels in bytes; 2**62, beyond any file, if the page has no strips."""
    places = page.numbers(_STRIPS)
    return places[0] if places else 1 << 62


@lru_cache(maxsize=64)
def _known_start(path: str, stamp: tuple[int, int]) -> tuple[str, bool, int]:
    return _start(path)


def _start(path: str) -> tuple[str, bool, int]:
    """Return the byte order, True for BigTIFF, and the offset of the first directory."""
    header = read_at(path, 0, 8)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    if order is None:
        raise BadCell("not a TIFF")
    (version,) = struct.unpack(order + "H", header[2:4])
    if version == 42:
        return order, False, struct.unpack(order + "I", header[4:8])[0]
    if version != 43:
        raise BadCell("not a TIFF")
    return order, True, struct.unpack(order + "Q", read_at(path, 8, 8))[0]


def _read(path: str, place: int, order: str, big: bool, size: int) -> tuple[Directory, int]:
    """Return the directory at offset `place`, and the offset of the next directory."""
    header, entry, wide = (8, 20, "Q") if big else (2, 12, "I")
    room = 8 if big else 4
    if not 0 < place <= size - header:
        raise BadCell("a page lies outside of the file")
    data = read_up_to(path, place, _DIRECTORY_BYTES)
    (num,) = struct.unpack_from(order + ("Q" if big else "H"), data)
    if num > _MOST_TAGS:
        raise BadCell("damaged tif header")
    end = header + num * entry
    if end + room > len(data):
        data = read_at(path, place, end + room)
    tags: dict[int, tuple[int, int, int | bytes]] = {}
    for tag, kind, count, value in struct.iter_unpack(f"{order}HH{wide}{room}s", data[header:end]):
        if tag not in _USED or kind not in _SIZES or tag in tags:
            continue
        if count * _SIZES[kind] <= room:
            tags[tag] = kind, count, value
            continue
        (where,) = struct.unpack(order + wide, value)
        if where <= size - count * _SIZES[kind]:
            tags[tag] = kind, count, where
    return Directory(path, place, order, tags), struct.unpack_from(order + wide, data, end)[0]


def _gather(path: str, places: tuple[int, ...], sizes: tuple[int, ...]) -> bytes:
    if sum(sizes) > MAX_FILE_BYTES:
        raise BadCell(f"too large: {sum(sizes):,} bytes")
    return b"".join([read_at(path, place, num) for place, num in zip(places, sizes, strict=True)])


def _single(page: Directory, places: tuple[int, ...], sizes: tuple[int, ...], tiled: bool) -> bytes:
    """Return a TIFF of this page alone: its encoded strips or tiles, and the tags needed to decode them."""
    if not places or len(places) != len(sizes):
        raise BadCell("damaged tif header")
    pixels = _gather(page.path, places, sizes)
    entries = [(tag, page.tags[tag][0], page.tags[tag][1], page.data(tag)) for tag in _COPIED if tag in page.tags]
    num = len(entries) + 2
    start = 8 + 2 + num * 12 + 4
    tail = bytearray()

    def place_of(values: bytes) -> bytes:
        if len(values) <= 4:
            return values.ljust(4, b"\0")
        tail.extend(b"\0" * (-len(tail) % 2))
        where = struct.pack(page.order + "I", start + len(tail))
        tail.extend(values)
        return where

    pack = page.order + f"{len(sizes)}I"
    # The pixels follow the values that do not fit into the directory. The total length of these is known in advance.
    copied = [(tag, kind, count, place_of(_narrow(page.order, kind, values))) for tag, kind, count, values in entries]
    counts = place_of(struct.pack(pack, *sizes))
    length = 4 * len(sizes) if len(sizes) > 1 else 0
    first = start + len(tail) + len(tail) % 2 + length
    offsets = [first + sum_ for sum_ in _running(sizes)]
    where = place_of(struct.pack(pack, *offsets))
    tail.extend(b"\0" * (first - start - len(tail)))
    copied.append((_TILES if tiled else _STRIPS, 4, len(sizes), where))
    copied.append((_TILE_BYTES if tiled else _STRIP_BYTES, 4, len(sizes), counts))
    header = (b"II*\0" if page.order == "<" else b"MM\0*") + struct.pack(page.order + "IH", 8, num)
    body = b"".join(
        struct.pack(page.order + "HHI", tag, {13: 4, 16: 4, 18: 4}.get(kind, kind), count) + value
        for tag, kind, count, value in sorted(copied)
    )
    return b"".join((header, body, bytes(4), bytes(tail), pixels))


def _narrow(order: str, kind: int, values: bytes) -> bytes:
    """Convert 64-bit integers to 32 bits, because classic TIFF has no 64-bit integers."""
    if kind not in (16, 18):
        return values
    numbers = struct.unpack(f"{order}{len(values) // 8}Q", values)
    if max(numbers, default=0) >= 1 << 32:
        raise BadCell("damaged tif header")
    return struct.pack(f"{order}{len(numbers)}I", *numbers)


def _running(sizes: tuple[int, ...]) -> Iterator[int]:
    total = 0
    for size in sizes:
        yield total
        total += size
