"""Read H x W x N stacks of cells from MATLAB files, `.mat` of version 5 to 7 (own reader) and 7.3 (HDF5).

Format: "MAT-File Level 5 File Format", https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf . Only arrays
of numbers are read; cells, structures, objects and functions are skipped, and nothing in a file is executed.
Compressed variables (the default of `save`; not with `-v6`) are decompressed once, into an unnamed temporary file.

`scipy.io.loadmat` is no substitute: it reads a variable whole. A file of 2 MB that decompresses to 500,000 cells of 64
x 64 px took 2,187 MiB of memory with SciPy 1.17 and 6 MiB here. 50,000 cells took the same time compressed (1.0 s of
CPU) and 0.26 against 0.18 s uncompressed. Its reader also crashes on 20,000 nested cell arrays, and allocates the
memory that an empty cell array claims.
"""

from __future__ import annotations

import math
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fastcell.dataset.open_files import damaged, read_at, stamp_of
from fastcell.errors import BadCell, DataError
from fastcell.sources import hdf5
from fastcell.sources.array_fields import Stack
from fastcell.sources.containers import read_bare
from fastcell.sources.hdf5_links import children, find
from fastcell.sources.numpy_files import MAX_SPOOL_BYTES
from fastcell.system.text import storable

_HEADER_BYTES = 128
_COMPRESSED, _MATRIX = 15, 14
_CHAR = 4
_COMPLEX = 0x08
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "u1", 2: "u1", 4: "u2", 16: "u1", 17: "u2"}  # types of characters: int8, uint8, uint16, UTF-8, UTF-16
_PIECE = 1 << 20
_MOST_HEADER = 1 << 16
_MOST_VARIABLES = 4096
_MOST_VALUES_BYTES = 1 << 28


class _Variable(NamedTuple):
    """An array of numbers, or a char matrix.

    `start` and `num_bytes` are position and size of its element in the file, `inside` the offset of the values in the
    decompressed element, and `compressed` whether the element is compressed. `dtype` is the type of the stored values:
    MATLAB uses the smallest type that holds them.
    """

    shape: tuple[int, ...]
    is_text: bool
    kind: str
    dtype: np.dtype[Any]
    start: int
    num_bytes: int
    inside: int
    compressed: bool

    @property
    def value_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Mat5File:
    """A `.mat` of version 5 to 7.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._spools: dict[str, BinaryIO] = {}
        try:
            with open(path, "rb") as file:
                self._variables = dict(_variables(path, file))
        except (struct.error, zlib.error, OverflowError) as error:
            raise damaged(path, error) from None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each variable with the cells first; MATLAB stores them last."""
        return {name: _cells_first(variable.shape) for name, variable in self._variables.items()}

    def stack(self, name: str) -> Stack:
        variable = self._variables[name]
        shape = _cells_first(variable.shape)
        if variable.dtype.itemsize > 2 or variable.kind not in ("u1", "u2") or len(shape) != 3:
            raise DataError(
                f"{storable(self.path)}: {storable(name)} must be H x W x N of class uint8 or uint16, got "
                f"{' x '.join(map(str, variable.shape))} of {np.dtype(variable.kind)}. Convert it in MATLAB with uint8 "
                "or uint16."
            )
        num, height, width = shape
        hdf5.image_shape(self.path, storable(name), shape, np.dtype(variable.kind))
        if variable.compressed and variable.value_bytes > MAX_SPOOL_BYTES:
            raise DataError(
                f"{storable(self.path)}: {storable(name)} is too large for a compressed variable. Save it with -v6."
            )
        dtype = variable.dtype.str

        def load(number: int) -> np.ndarray:
            if not variable.compressed:
                pixels = read_bare(self.path, variable.start + variable.inside, number, height, width, 1, dtype, True)
            else:
                size = height * width * variable.dtype.itemsize
                spool = self._spool(name, variable)
                data = os.pread(spool.fileno(), size, number * size)
                if len(data) < size:
                    raise BadCell("truncated")
                pixels = np.frombuffer(data, dtype).reshape(width, height).T
            return pixels.astype(variable.kind)

        return Stack(num, height, width, 1, variable.kind, 0, load)

    def values(self, name: str, num: int) -> np.ndarray | None:
        variable = self._variables[name]
        if variable.value_bytes > _MOST_VALUES_BYTES:
            return None
        if variable.is_text:
            if len(variable.shape) != 2 or variable.shape[0] != num:
                return None
            letters = np.frombuffer(self._bytes(variable), variable.dtype).reshape(variable.shape, order="F")
            return np.array(["".join(map(chr, row)).strip() for row in letters.tolist()], dtype=object)
        if math.prod(variable.shape) != num or max(variable.shape, default=0) != num:
            return None
        return np.frombuffer(self._bytes(variable), variable.dtype).astype(variable.kind)

    def _bytes(self, variable: _Variable) -> bytes:
        with open(self.path, "rb") as file:
            return b"".join(_value_bytes(self.path, file, variable))

    def _spool(self, name: str, variable: _Variable) -> BinaryIO:
        if name not in self._spools:
            spool = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as this object
            try:
                with open(self.path, "rb") as file:
                    for piece in _value_bytes(self.path, file, variable):
                        spool.write(piece)
                spool.flush()
            except DataError as error:
                raise BadCell(f"damaged: {error}") from None
            self._spools[name] = spool
        return self._spools[name]


class Mat73File:
    """A `.mat` of version 7.3, which is HDF5 with the axes in reverse.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._shapes: dict[str, tuple[int, ...]] = {}
        with hdf5.opened(path) as file:
            for name in children(file):
                dataset = find(file, name)
                if hasattr(dataset, "shape") and dataset.shape and dataset.dtype.kind in "biuf":
                    self._shapes[name] = _flat(tuple(map(int, dataset.shape)))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def stack(self, name: str) -> Stack:
        with hdf5.opened(self.path) as file:
            images = hdf5.describe_images(file, find(file, name), stamp_of(self.path)[0])
        if images.channels != 1:
            raise DataError(
                f"{storable(self.path)}: {storable(name)} must be H x W x N. Save one channel of each cell."
            )

        def load(number: int) -> np.ndarray:
            return hdf5.load_images(self.path, images, number).T

        return Stack(images.num, images.width, images.height, 1, images.dtype, images.run_cells, load)

    def values(self, name: str, num: int) -> np.ndarray | None:
        with hdf5.opened(self.path) as file:
            dataset = find(file, name)
            if _flat(tuple(dataset.shape)) != (num,) or num * dataset.dtype.itemsize > _MOST_VALUES_BYTES:
                return None
            return np.asarray(dataset[()]).reshape(num)


def _variables(path: str, file: BinaryIO) -> Iterator[tuple[str, _Variable]]:
    """Yield name and place of every array of numbers and char matrix."""
    size = os.fstat(file.fileno()).st_size
    header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or header[126:128] not in (b"IM", b"MI"):
        raise damaged(path, "not a MAT-file of version 5 to 7.3")
    order = "<" if header[126:128] == b"IM" else ">"
    position = _HEADER_BYTES
    for _ in range(_MOST_VARIABLES):
        if position + 8 > size:
            break
        file.seek(position)
        kind, num = struct.unpack(order + "II", file.read(8))
        start = position + 8
        if start + num > size:
            raise damaged(path, f"it ends within the variable at byte {position:,}")
        if kind in (_COMPRESSED, _MATRIX):
            found = _read_variable(path, file, order, start, num, kind == _COMPRESSED)
            if found is not None:
                yield found
        position = start + num


def _read_variable(
    path: str, file: BinaryIO, order: str, start: int, num: int, compressed: bool
) -> tuple[str, _Variable] | None:
    """Read flags, dimensions, name and the header of the values; return None for anything except an array of real
    numbers.
    """
    if compressed:
        file.seek(start)
        data = zlib.decompressobj().decompress(file.read(min(num, _MOST_HEADER)), _MOST_HEADER)
        kind, total = struct.unpack_from(order + "II", data)
        if kind != _MATRIX or total > num * 1032 + 1032:
            raise damaged(path, f"a variable of {total:,} bytes compressed to {num:,}")
        first = 8
    else:
        file.seek(start)
        data, total, first = file.read(min(num, _MOST_HEADER)), num, 0
    flags, place = _element(order, data, first)
    sides, place = _element(order, data, place)
    name, place = _element(order, data, place)
    (word,) = struct.unpack_from(order + "I", flags)
    kind_of_class = word & 0xFF
    is_text = kind_of_class == _CHAR
    if (kind_of_class not in _CLASSES and not is_text) or (word >> 8) & _COMPLEX:
        return None
    shape = struct.unpack(order + f"{len(sides) // 4}i", sides[: len(sides) // 4 * 4])
    if not 1 <= len(shape) <= 8 or min(shape) < 0:
        raise damaged(path, f"a variable of shape {shape}")
    stored, num_values, inside = _tag(order, data, place)
    code = (_TEXTS if is_text else _TYPES).get(stored)
    if code is None:
        return None
    variable = _Variable(
        shape,
        is_text,
        "u2" if is_text else _CLASSES[kind_of_class],
        np.dtype(order + code),
        start,
        num,
        inside,
        compressed,
    )
    if variable.value_bytes != num_values or inside + num_values > total + first:
        if is_text:  # UTF-8 may need several bytes for a character
            return None
        raise damaged(path, f"a variable of shape {shape} in {num_values:,} bytes")
    return name.decode("latin-1"), variable


def _value_bytes(path: str, file: BinaryIO, variable: _Variable) -> Iterator[bytes]:
    """Yield the values of a variable in pieces."""
    if not variable.compressed:
        yield read_at(path, variable.start + variable.inside, variable.value_bytes)
        return
    file.seek(variable.start)
    engine = zlib.decompressobj()
    skip, due, left, waiting = variable.inside, variable.value_bytes, variable.num_bytes, b""
    while due:
        if not waiting and left:
            waiting = file.read(min(_PIECE, left))
            left -= len(waiting) or left
        try:
            piece = engine.decompress(waiting, _PIECE)
        except zlib.error as error:
            raise damaged(path, error) from None
        waiting = engine.unconsumed_tail
        if not piece and not waiting and not left:
            raise damaged(path, "a truncated variable")
        piece, skip = piece[skip:], max(0, skip - len(piece))
        yield piece[:due]
        due -= min(due, len(piece))


def _tag(order: str, data: bytes, place: int) -> tuple[int, int, int]:
    """Return type, size and start of a data element; small elements share the eight bytes of their tag."""
    kind, num = struct.unpack_from(order + "II", data, place)
    if kind >> 16:
        return kind & 0xFFFF, kind >> 16, place + 4
    return kind, num, place + 8


def _element(order: str, data: bytes, place: int) -> tuple[bytes, int]:
    """Return the bytes of an element, and the start of the next one."""
    _, num, first = _tag(order, data, place)
    if first + num > len(data):
        raise struct.error("a truncated header")
    end = place + 8 if first == place + 4 else first + num + (-num % 8)
    return data[first : first + num], end


def _cells_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return (H, W, N) as (N, H, W), and rows and columns of numbers as (N,)."""
    if len(shape) == 3:
        return shape[2], shape[0], shape[1]
    return _flat(shape)


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (max(shape),) if len(shape) == 2 and min(shape) == 1 else shape
