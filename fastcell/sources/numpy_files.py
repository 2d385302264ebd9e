"""NumPy files as sources of cells: `.npy`, and `.npz`, uncompressed or compressed. Pickled objects are not read.

Formats: NEP 1 (https://numpy.org/neps/nep-0001-npy-format.html), and ZIP with one `.npy` per array.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from fastcell.dataset.image_headers import NpyHeader, parse_npy_header
from fastcell.dataset.open_files import damaged, read_at
from fastcell.errors import BadCell, DataError
from fastcell.sources.array_fields import KNOWN_ARRAYS, Stack
from fastcell.sources.containers import read_bare
from fastcell.sources.hdf5 import image_shape
from fastcell.system.text import storable

MAX_SPOOL_BYTES = 1 << 32
_HEADER_BYTES = 4096
_MOST_VALUE_BYTES = 1024  # maximum size of a text
_DENSEST = 1032  # maximum number of bytes that deflate produces from one byte
_PIECE = 1 << 20
_DESCR = re.compile(r"[<>=|]?[biufSU][0-9]{1,4}|[<>=|]?b1|\|b1")


def read_header(data: bytes) -> NpyHeader | None:
    """Parse the header of a `.npy` in its first 4,096 bytes; return None for other files, objects and records."""
    if data[:6] != b"\x93NUMPY":
        return None
    try:
        header = parse_npy_header(data)
        if not _DESCR.fullmatch(header.descr) or header.dtype.itemsize < 1:
            return None
    except (BadCell, TypeError, ValueError):
        return None
    return None if any(side > 1 << 48 for side in header.shape) else header


class NpyFile:
    """An `.npy` file of images: a single array without a name.

    Args:
        path: path of the file.

    Raises:
        DataError: If the file is not an array of numbers or is too short.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, "rb") as file:
            header = read_header(file.read(_HEADER_BYTES))
            size = os.fstat(file.fileno()).st_size
        if header is None:
            raise damaged(path, "it holds no array of numbers; pickled objects are not read")
        if header.num_bytes > size - header.start:
            raise damaged(path, f"an array of shape {header.shape} in {size:,} bytes")
        self._header = header

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"images": self._header.shape}

    def stack(self, name: str) -> Stack:
        return _bare_stack(self.path, "the array", self._header, self._header.start)

    def values(self, name: str, num: int) -> np.ndarray | None:
        return _values(self._header, num, lambda: read_at(self.path, self._header.start, self._header.num_bytes))


def read_column(path: str, num: int) -> np.ndarray | None:
    """Read the (num,) values of an `.npy` file; return None if it has another shape.

    Args:
        path: path of the file.
        num: expected number of values.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        return NpyFile(path).values("", num)
    except BadCell as error:
        raise damaged(path, error) from None


class NpzFile:
    """An `.npz` file of named arrays. Compressed images are decompressed once, into an unnamed temporary file.

    Args:
        path: path of the file.

    Raises:
        DataError: If the file cannot be read, or a known array holds objects.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._members: dict[str, tuple[zipfile.ZipInfo, NpyHeader]] = {}
        self._spool: BinaryIO | None = None
        size = os.stat(path).st_size  # noqa: PTH116, the path is a text
        try:
            with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
                for info in archive.infolist():
                    if info.filename.endswith(".npy"):
                        header = self._read_header(file, info, size)
                        name = info.filename.removesuffix(".npy")
                        if header is not None:
                            self._members[name] = info, header
                        elif name in KNOWN_ARRAYS:
                            raise DataError(
                                f"{storable(path)}: {name} must be an array of numbers or texts, got objects, which "
                                "are not unpickled. Save it as np.array(..., dtype=str)."
                            )
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, EOFError) as error:
            raise damaged(path, error) from None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: header.shape for name, (_, header) in self._members.items()}

    def stack(self, name: str) -> Stack:
        info, header = self._members[name]
        if info.compress_type == zipfile.ZIP_STORED:
            with open(self.path, "rb") as file:
                return _bare_stack(self.path, name, header, _data_start(file, info) + header.start)
        stack = _bare_stack(self.path, name, header, 0)
        if header.num_bytes > MAX_SPOOL_BYTES:
            raise DataError(
                f"{storable(self.path)}: {storable(name)} must have at most {MAX_SPOOL_BYTES >> 30} GiB if it is "
                f"compressed, got {header.num_bytes:,} bytes. Save it with np.savez, or as .npy."
            )
        return stack._replace(load=lambda number: self._load(name, stack, number))

    def values(self, name: str, num: int) -> np.ndarray | None:
        info, header = self._members[name]

        def read() -> bytes:
            with open(self.path, "rb") as file:
                return b"".join(_inflate(self.path, file, info))[header.start :]

        return _values(header, num, read)

    def _load(self, name: str, stack: Stack, number: int) -> np.ndarray:
        info, header = self._members[name]
        if self._spool is None:
            self._spool = self._decompress(info)
        num = stack.height * stack.width * stack.channels * header.dtype.itemsize
        data = os.pread(self._spool.fileno(), num, header.start + number * num)
        if len(data) < num:
            raise BadCell("truncated")
        sides = (stack.height, stack.width) if stack.channels == 1 else (stack.height, stack.width, stack.channels)
        return np.frombuffer(data, header.dtype).reshape(sides)

    def _decompress(self, info: zipfile.ZipInfo) -> BinaryIO:
        spool = tempfile.TemporaryFile()  # noqa: SIM115, used as long as this object exists
        try:
            with open(self.path, "rb") as file:
                for piece in _inflate(self.path, file, info):
                    spool.write(piece)
            spool.flush()
        except DataError as error:
            raise BadCell(f"damaged: {error}") from None
        return spool

    def _read_header(self, file: BinaryIO, info: zipfile.ZipInfo, size: int) -> NpyHeader | None:
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise damaged(self.path, f"{storable(info.filename)} is encrypted, or compressed in an unusual way")
        most = info.compress_size * (1 if info.compress_type == zipfile.ZIP_STORED else _DENSEST) + _DENSEST
        if _data_start(file, info) + info.compress_size > size or info.file_size > most:
            raise damaged(self.path, f"the header of {storable(info.filename)} states {info.file_size:,} bytes")
        header = read_header(next(_inflate(self.path, file, info, _HEADER_BYTES), b""))
        if header is not None and header.start + header.num_bytes > info.file_size:
            raise damaged(self.path, f"{storable(info.filename)} of shape {header.shape} in {info.file_size:,} bytes")
        return header


def _bare_stack(path: str, name: str, header: NpyHeader, offset: int) -> Stack:
    if header.fortran and len(header.shape) > 1:
        raise DataError(
            f"{storable(path)}: {storable(name)} must be stored cell by cell, got Fortran order. Save it with "
            "np.save(..., np.ascontiguousarray(...))."
        )
    height, width, channels = image_shape(path, storable(name), header.shape, header.dtype)
    dtype = header.dtype.str

    def load(number: int) -> np.ndarray:
        return read_bare(path, offset, number, height, width, channels, dtype)

    return Stack(header.shape[0], height, width, channels, dtype, 0, load)


def _values(header: NpyHeader, num: int, read: Callable[[], bytes]) -> np.ndarray | None:
    if header.shape not in ((num,), (num, 1)) or header.dtype.itemsize > _MOST_VALUE_BYTES:
        return None
    values = np.frombuffer(read(), header.dtype, num)
    return values.astype(object) if header.dtype.kind in "SU" else values


def _data_start(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return the position of a member's data: after its local header, whose name and extra field vary in length."""
    if info.header_offset < 0:
        raise zipfile.BadZipFile("a member that starts before the file")
    file.seek(info.header_offset)
    local = file.read(30)
    if local[:4] != b"PK\x03\x04" or len(local) < 30:
        raise zipfile.BadZipFile("a member without a local header")
    return info.header_offset + 30 + sum(struct.unpack_from("<HH", local, 26))


def _inflate(path: str, file: BinaryIO, info: zipfile.ZipInfo, most: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a member in pieces, at most as many as its header gives (or `most`); verify its checksum."""
    file.seek(_data_start(file, info))
    left, due, check = info.compress_size, info.file_size, 0
    engine = zlib.decompressobj(-15) if info.compress_type == zipfile.ZIP_DEFLATED else None
    waiting = b""
    while due:
        if not waiting and left:
            waiting = file.read(min(_PIECE, left))
            left -= len(waiting) or left  # a truncated file has no more bytes
        try:
            piece = waiting if engine is None else engine.decompress(waiting, min(_PIECE, due, most or _PIECE))
        except zlib.error as error:
            raise damaged(path, error) from None
        waiting = b"" if engine is None else engine.unconsumed_tail
        if not piece and not waiting and not left:
            break
        piece = piece[:due]
        due -= len(piece)
        check = zlib.crc32(piece, check)
        yield piece if most is None else piece[:most]
        if most is not None:
            return
    if due or check != info.CRC:
        raise damaged(path, f"{storable(info.filename)} is truncated, or its checksum is wrong")
