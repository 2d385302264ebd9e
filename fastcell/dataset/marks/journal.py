"""``marks.jsonl``: a journal of the marks that people set on cells. One JSON object per line; lines are only appended.

The first line identifies the data set. Each further line is one mark: a random name (``op``), time (``at``, UTC),
person (``who``), the cells (ranges of cell_ids), and the statements about them. A mark is valid once its line break is
on disk, and `append_marks` returns after that. The incomplete line of a killed process is removed by the next process
that appends. A lock on the file admits one process at a time.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastcell.dataset.marks.cell_ranges import read_ranges, write_ranges
from fastcell.errors import DataError
from fastcell.storage.formats import FORMATS, check_format
from fastcell.storage.whole_files import sync_folder
from fastcell.system.text import one_name

MARKS_FILE = "marks.jsonl"
MOST_NAME = 100
"""Maximum number of letters in the name of a class, a tag or a person."""

_HEADER = "fastcell_marks"
_MOST_BYTES = 1 << 31
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_HINT = "Restore or remove the file"


class Mark(NamedTuple):
    """One line of the journal. At least one of the fields from `label` on is set.

    Attributes:
        op: name of the mark, unique in the journal.
        at: time, ``2026-01-31T14:25:01.123Z``.
        who: person.
        cells: (n,) int64 cell_ids, ascending; empty for a mark on no cell.
        label: class; empty for no class; None if the mark does not set it.
        reset: whether labels by hand are removed, so that the class of the manifest applies again.
        verdict: keep, drop, or empty to remove a verdict by hand; None if the mark does not set it.
        unsure: whether the cells are unsure; None if the mark does not set it.
        tag, untag: tag to add or to remove; None without one.
        undo, redo: name of the mark to undo or to redo; None without one.
        classes: names of classes that a person has defined before a cell has them.
        before: verdicts of the cells before this mark, as rows of cell_id, verdict, reason, and whether set by hand.
    """

    op: str
    at: str
    who: str
    cells: npt.NDArray[np.int64]
    label: str | None = None
    reset: bool = False
    verdict: str | None = None
    unsure: bool | None = None
    tag: str | None = None
    untag: str | None = None
    undo: str | None = None
    redo: str | None = None
    classes: tuple[str, ...] = ()
    before: tuple[tuple[int, str, str, bool], ...] = ()

    @classmethod
    def now(cls, who: str, cells: npt.NDArray[np.int64], **said: Any) -> Mark:
        """Return a new mark with the present time."""
        moment = datetime.datetime.now(datetime.timezone.utc)
        at = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1_000:03d}Z"
        return cls(secrets.token_hex(6), at, who, np.unique(cells), **said)

    def to_line(self) -> bytes:
        """Return the mark as a line of the journal."""
        values: dict[str, Any] = {"op": self.op, "at": self.at, "who": self.who}
        if len(self.cells):
            values["cells"] = write_ranges(self.cells)
        defaults = Mark._field_defaults
        values |= {name: getattr(self, name) for name in defaults if getattr(self, name) != defaults[name]}
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"


class JournalPart(NamedTuple):
    """Marks that were read.

    Attributes:
        marks: in the order of the file.
        end: position after the last complete line [bytes].
        inode: number of the file in its file system; 0 without a file.
    """

    marks: list[Mark]
    end: int
    inode: int


def checked_name(what: str, name: object) -> str:
    """Return the name of a class, tag or person in the stored form: Unicode form NFC, without surrounding spaces.

    Raises:
        ValueError: the name is not text, is empty, has more than `MOST_NAME` letters, or has invisible letters.
    """
    text = one_name(name.strip()) if isinstance(name, str) else ""
    if not text or len(text) > MOST_NAME or not text.isprintable():
        raise ValueError(f"{what} must be 1 to {MOST_NAME} visible letters, got {str(name)[:60]!r}")
    return str(text)


def digest_cells(table: pa.Table) -> str:
    """Return a hash of the stored bytes of all cells: 32 hexadecimal digits (BLAKE2b, 128 bits).

    Args:
        table: rows of the manifest.
    """
    digest = blake2b(digest_size=16)
    for chunk in table.column("byte_hash").chunks:
        data = chunk.buffers()[1]
        if data is not None:
            digest.update(memoryview(data)[16 * chunk.offset : 16 * (chunk.offset + len(chunk))])
    return digest.hexdigest()


def read_marks(folder: Path, table: pa.Table, start: int = 0) -> JournalPart:
    """Read the marks of a data set.

    Args:
        folder: folder of the data set.
        table: rows of its manifest, to check that the marks belong to these cells.
        start: position of the first line to read [bytes], from the result of an earlier call.

    Raises:
        DataError: the file is not a journal, belongs to other cells, or has a line that cannot be read.
    """
    path = folder / MARKS_FILE
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return JournalPart([], 0, 0)
    with open(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not path.is_file() or status.st_size > _MOST_BYTES:
            raise DataError(f"{path} must be a file of at most {_MOST_BYTES:,} bytes. {_HINT}.")
        file.seek(start)
        data = file.read()
    data = data[: data.rfind(b"\n") + 1]
    lines = data.split(b"\n")[:-1]
    marks = []
    if start == 0 and lines:
        _check_header(lines[0], table, path)
    for number, line in enumerate(lines):
        if start or number:
            try:
                marks.append(_parse(line, table.num_rows))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                place = f"line {number + 1:,}" if start == 0 else f"a line after byte {start:,}"
                raise DataError(f"{path}: {place} must be a mark, but: {str(error)[:200]}. {_HINT}.") from None
    return JournalPart(marks, start + len(data), status.st_ino)


def append_marks(
    folder: Path, table: pa.Table, make: Callable[[], Sequence[Mark]], then: Callable[[], None] | None = None
) -> None:
    """Append marks to the journal of a data set. They are on disk when the function returns.

    Args:
        folder: folder of the data set.
        table: rows of its manifest.
        make: function that returns the marks, called while no other process can append.
        then: function to call once the marks are on disk, while no other process can append.

    Raises:
        DataError: the file is not a journal, or belongs to other cells.
        OSError: the file cannot be written.
    """
    path = folder / MARKS_FILE
    with _locked(path) as handle:
        size = os.fstat(handle).st_size
        end = _whole_lines(handle, size)
        if end == 0:
            header = {_HEADER: FORMATS["marks"].number, "cells": table.num_rows, "bytes": digest_cells(table)}
            first = json.dumps(header).encode() + b"\n"
        else:
            first = b""
            _check_header(os.pread(handle, 4096, 0).split(b"\n")[0], table, path)
        data = first + b"".join(mark.to_line() for mark in make())
        if end < size:
            os.ftruncate(handle, end)
        try:
            _write_all(handle, data)
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, end)
            raise
        if first:
            sync_folder(folder)
        if then is not None:
            then()


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open the journal for appending, under a lock that excludes other processes."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            try:
                same = path.stat().st_ino == os.fstat(handle).st_ino
            except FileNotFoundError:
                same = False
            if same:
                yield handle
                return
        finally:
            os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _whole_lines(handle: int, size: int) -> int:
    """Return the position after the last line break of a file; 0 without a line break."""
    end = size
    while end > 0:
        start = max(0, end - (1 << 16))
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _check_header(line: bytes, table: pa.Table, path: Path) -> None:
    try:
        header = json.loads(line)
        number = header[_HEADER]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DataError(f"{path} must begin with a line of fastcell review, got {line[:60]!r}. {_HINT}.") from None
    check_format("marks", number, path)
    if header.get("cells") != table.num_rows or header.get("bytes") != digest_cells(table):
        raise DataError(
            f"{path} must be of the cells of this data set, got marks of {header.get('cells')} other cells. "
            "Move it to the data set that it belongs to, or remove it."
        )


def _parse(line: bytes, num_cells: int) -> Mark:
    """Return the mark of a line.

    Raises:
        ValueError, TypeError, KeyError: the line is no mark.
    """
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    unknown = set(values) - set(Mark._fields)
    if unknown:
        raise ValueError(f"unknown field {min(unknown)[:60]!r}")
    kinds: dict[str, type | tuple[type, ...]] = {"reset": bool, "unsure": bool, "classes": list, "before": list}
    for name, value in values.items():
        if not isinstance(value, kinds.get(name, str)):
            raise ValueError(f"{name} has another kind of value")
    cells = np.empty(0, np.int64)
    if "cells" in values:
        cells = read_ranges(values.pop("cells"), num_cells)
    if values.get("verdict") not in (None, "", "keep", "drop"):
        raise ValueError(f"verdict must be keep or drop, got {values['verdict'][:60]!r}")
    for name in ("label", "tag", "untag"):
        if values.get(name):
            values[name] = checked_name(name, values[name])
    values["classes"] = tuple(checked_name("class", name) for name in values.get("classes", ()))
    values["before"] = tuple(
        (int(cell), str(verdict), str(reason), bool(by_hand))
        for cell, verdict, reason, by_hand in values.get("before", ())
    )
    return Mark(values.pop("op"), values.pop("at"), values.pop("who"), cells, **values)
