"""Walk the image directories of a TIFF within limits, before tifffile reads one of them.

Only the chain and the directory entries are read here; values and pixels are read by tifffile. Sizes and offsets are
those of TIFF 6.0 and BigTIFF.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from fastcell.errors import BadCell

ReadAt = Callable[[int, int], bytes]
"""Function that returns up to `num` bytes from `offset` on: `(offset, num) -> bytes`."""

#: Tags that decide how pixels are decoded.
PIXEL_TAGS = (
    *(254, 255, 256, 257, 258, 259, 262, 266, 274, 277, 278, 284, 292, 293, 317, 320, 322, 323, 332, 338, 339, 347),
    *(512, 513, 514, 519, 520, 521, 529, 530, 531, 532, 32997, 32998, 34412),
)
#: Tags with the places of strips and tiles, which differ from page to page.
PLACE_TAGS = (273, 279, 324, 325)
DESCRIPTION_TAG = 270
#: Tags of volumes and of one microscope, for which tifffile changes the meaning of others.
_SPECIAL_TAGS = (32997, 32998, 34412)

_KIND_TAGS = (254, 255)
_KEPT_TAGS = (*PLACE_TAGS, DESCRIPTION_TAG, *_KIND_TAGS)
_MOST_TAGS = 512
_MOST_TEXT = 1 << 20
_MOST_PIECES = 1 << 16
_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_READ_BYTES = 512  # holds most directories, so that one read is enough
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


class FileLayout(NamedTuple):
    """Byte order and field sizes of a TIFF.

    Attributes:
        order: `<` or `>`.
        is_big: True for BigTIFF.
        first: offset of the first directory in bytes.
    """

    order: str
    is_big: bool
    first: int


class Directory(NamedTuple):
    """Image directory of one page.

    Attributes:
        place: offset in bytes.
        following: offset of the next directory, 0 if it is the last.
        decoding: the entries of `PIXEL_TAGS`. Pages for which these are equal are decoded in the same way.
        is_inline: True if the values of these entries are in the directory itself, so that `decoding` holds them.
        codes: tags of `PIXEL_TAGS` and `PLACE_TAGS` in the directory.
        entries: the entries of `PLACE_TAGS`, of the description and of the kind of page, by tag.
        is_reduced: True if the page is a smaller copy of another page, or its mask.
    """

    place: int
    following: int
    decoding: bytes
    is_inline: bool
    codes: frozenset[int]
    entries: dict[int, bytes]
    is_reduced: bool


def read_layout(read: ReadAt) -> FileLayout:
    """Read the first bytes of a TIFF.

    Raises:
        BadCell: the file is not a TIFF, or it is too short.
    """
    header = read(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    if order is None:
        raise BadCell("not a TIFF")
    if len(header) < 8:
        raise BadCell("truncated")
    (version,) = struct.unpack(order + "H", header[2:4])
    if version == 42:
        return FileLayout(order, False, struct.unpack(order + "I", header[4:8])[0])
    if version != 43:
        raise BadCell("not a TIFF")
    if len(header) < 16:
        raise BadCell("truncated")
    if struct.unpack(order + "HH", header[4:8]) != (8, 0):  # bytes of an offset, and a zero
        raise BadCell("damaged tif header")
    return FileLayout(order, True, struct.unpack(order + "Q", header[8:16])[0])


def walk_directories(read: ReadAt, size: int) -> Iterator[Directory]:
    """Yield the directories of a TIFF in the order of their chain.

    Args:
        read: reader of the file.
        size: size of the file in bytes.

    Raises:
        BadCell: the file is not a TIFF, or its chain leaves the file or forms a circle.
    """
    layout = read_layout(read)
    place = layout.first
    seen: set[int] = set()
    while place:
        if place in seen:
            raise BadCell("its pages form a circle")
        seen.add(place)
        directory = read_directory(read, size, layout, place)
        yield directory
        place = directory.following
    if not seen:
        raise BadCell("damaged tif header")


def read_directory(read: ReadAt, size: int, layout: FileLayout, place: int) -> Directory:
    """Read the directory at offset `place`.

    Raises:
        BadCell: it lies outside of the file or is damaged.
    """
    header, entry, wide, room = (8, 20, "Q", 8) if layout.is_big else (2, 12, "I", 4)
    if not 0 < place <= size - header:
        raise BadCell("truncated" if place else "damaged tif header")
    data = read(place, _READ_BYTES)
    (num,) = struct.unpack_from(layout.order + ("Q" if layout.is_big else "H"), data)
    if not 0 < num <= _MOST_TAGS:
        raise BadCell("damaged tif header")
    end = header + num * entry
    if end + room > len(data):
        data = read(place, end + room)
    if len(data) < end + room:
        raise BadCell("truncated")
    plan = _plan(struct.unpack_from(_code_form(layout.order, entry, num), data, header), header, entry)
    decoding = b"".join([data[start:stop] for start, stop in plan.runs])
    entries = {code: data[start : start + entry] for code, start in plan.kept}
    return Directory(
        place,
        struct.unpack_from(layout.order + wide, data, end)[0],
        decoding,
        not plan.is_special and _all_inline(decoding, entry, room, layout.order),
        plan.codes,
        entries,
        _is_reduced(entries, layout),
    )


class _Plan(NamedTuple):
    """Positions of the entries that are used; they follow from the tags of a directory alone.

    Attributes:
        runs: first and last byte of the entries of `PIXEL_TAGS`, adjacent ones together.
        kept: tag and first byte of the entries in `_KEPT_TAGS`; of a repeated tag the first.
        codes: tags of `PIXEL_TAGS` and `PLACE_TAGS`.
        is_special: True if there are tags of `_SPECIAL_TAGS`.
    """

    runs: tuple[tuple[int, int], ...]
    kept: tuple[tuple[int, int], ...]
    codes: frozenset[int]
    is_special: bool


@lru_cache(maxsize=256)
def _plan(codes: tuple[int, ...], header: int, entry: int) -> _Plan:
    runs: list[tuple[int, int]] = []
    kept: dict[int, int] = {}
    for i, code in enumerate(codes):
        start = header + i * entry
        if code in _KEPT_TAGS:
            kept.setdefault(code, start)
        if code in PIXEL_TAGS:
            first = runs.pop()[0] if runs and runs[-1][1] == start else start
            runs.append((first, start + entry))
    known = frozenset(codes).intersection((*PIXEL_TAGS, *PLACE_TAGS))
    return _Plan(tuple(runs), tuple(kept.items()), known, not known.isdisjoint(_SPECIAL_TAGS))


@lru_cache(maxsize=256)
def _code_form(order: str, entry: int, num: int) -> str:
    return order + f"H{entry - 2}x" * num


def read_places(read: ReadAt, layout: FileLayout, entry: bytes) -> tuple[int, ...]:
    """Return the values of an entry of `PLACE_TAGS`.

    Raises:
        BadCell: they are not integers, there are too many, or they lie outside of the file.
    """
    kind, count = struct.unpack_from(layout.order + ("HQ" if layout.is_big else "HI"), entry, 2)
    value = entry[12 if layout.is_big else 8 :]
    if kind not in _WHOLE or count > _MOST_PIECES:
        raise BadCell("damaged tif header")
    form = f"{layout.order}{count}{_WHOLE[kind]}"
    num = struct.calcsize(form)
    if num > len(value):
        (place,) = struct.unpack(layout.order + ("Q" if layout.is_big else "I"), value)
        value = read(place, num)
    if len(value) < num:
        raise BadCell("truncated")
    return struct.unpack(form, value[:num])


def read_text(read: ReadAt, layout: FileLayout, entry: bytes) -> str:
    """Return the text of an entry, up to 1 MiB of it; an empty text if the entry holds none."""
    kind, count = struct.unpack_from(layout.order + ("HQ" if layout.is_big else "HI"), entry, 2)
    if kind not in (1, 2, 7):
        return ""
    value = entry[12 if layout.is_big else 8 :]
    if count > len(value):
        (place,) = struct.unpack(layout.order + ("Q" if layout.is_big else "I"), value)
        value = read(place, min(count, _MOST_TEXT))
    return value[:count].decode("utf-8", "replace").strip("\0 ")


def _is_reduced(found: dict[int, bytes], layout: FileLayout) -> bool:
    """Read NewSubfileType (254), whose bits mean a smaller copy and a mask, or SubfileType (255), 2 for a copy."""
    for code, wanted in ((254, 0b101), (255, 0)):
        if code in found:
            line = found[code]
            (kind,) = struct.unpack_from(layout.order + "H", line, 2)
            value = 12 if layout.is_big else 8
            (number,) = struct.unpack_from(layout.order + ("H" if kind == 3 else "I"), line, value)
            return bool(number & wanted) if wanted else number == 2
    return False


@lru_cache(maxsize=256)
def _all_inline(decoding: bytes, entry: int, room: int, order: str) -> bool:
    """Return True if the values of all entries fit into the entries themselves."""
    form = order + ("HHQ" if entry == 20 else "HHI")
    for start in range(0, len(decoding), entry):
        _, kind, count = struct.unpack_from(form, decoding, start)
        if _SIZES.get(kind, room + 1) * count > room:
            return False
    return True
