"""Bytes out of files that hold many cells: files stay open, and their size and time are asked for once."""

from __future__ import annotations

import os
from functools import lru_cache

from fastcell.errors import BadCell, DataError
from fastcell.system.text import storable


def damaged(path: str, why: object) -> DataError:
    """The error for a container that cannot be read."""
    text = (str(why).strip().splitlines() or [type(why).__name__])[0][:200].rstrip(".")
    return DataError(f"{storable(path)} cannot be read ({text}). Copy or make it again, or move it out of the folder.")


def look_again() -> None:
    """Forget how the files were when they were last looked at: before a listing, and before each shard."""
    _stamps.clear()


def stamp_of(path: str) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns, as of the first call since `look_again`: asking for each
    cell takes longer than reading it. Raises OSError."""
    stamp = _stamps.get(path)
    if stamp is None:
        status = os.stat(path)  # noqa: PTH116, a path in text
        stamp = _stamps[path] = status.st_size, status.st_mtime_ns
    return stamp


_stamps: dict[str, tuple[int, int]] = {}


def read_at(path: str, offset: int, num: int) -> bytes:
    """`num` bytes of a file from `offset` on; the file stays open.

    Raises:
        OSError: it cannot be read.
        BadCell: it ends before.
    """
    data = read_up_to(path, offset, num)
    if len(data) < num:
        raise BadCell("truncated")
    return data


def read_up_to(path: str, offset: int, num: int) -> bytes:
    """As `read_at`, fewer bytes where the file ends."""
    if offset + num >= 1 << 63:  # where no file reaches, and what the system does not take
        return b""
    return os.pread(_handle(path, stamp_of(path)).number, num, offset)


class _Handle:
    """A descriptor that is closed when it is forgotten."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@lru_cache(maxsize=64)
def _handle(path: str, stamp: tuple[int, int]) -> _Handle:
    return _Handle(path)
