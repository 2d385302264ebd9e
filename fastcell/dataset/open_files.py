"""Read bytes from files that hold many cells. Files stay open, and their size and modification time are cached."""

from __future__ import annotations

import os
from functools import lru_cache

from fastcell.errors import BadCell, DataError
from fastcell.system.text import storable


def damaged(path: str, why: object) -> DataError:
    """Return the error for a container file that cannot be read."""
    text = (str(why).strip().splitlines() or [type(why).__name__])[0][:200].rstrip(".")
    return DataError(f"{storable(path)} cannot be read ({text}). Copy or make it again, or move it out of the folder.")


def look_again() -> None:
    """Clear the cached sizes and modification times. Call it before a listing and before each shard."""
    _stamps.clear()


def stamp_of(path: str) -> tuple[int, int]:
    """Return size in bytes and modification time in ns of a file.

    The values are cached until the next `look_again`, because querying the file for each cell takes longer than reading
    the cell.

    Raises:
        OSError: the file cannot be accessed.
    """
    stamp = _stamps.get(path)
    if stamp is None:
        status = os.stat(path)  # noqa: PTH116, a path in text
        stamp = _stamps[path] = status.st_size, status.st_mtime_ns
    return stamp


_stamps: dict[str, tuple[int, int]] = {}


def read_at(path: str, offset: int, num: int) -> bytes:
    """Read `num` bytes of a file from `offset` on. The file stays open.

    Raises:
        OSError: the file cannot be read.
        BadCell: the file ends before `offset + num`.
    """
    data = read_up_to(path, offset, num)
    if len(data) < num:
        raise BadCell("truncated")
    return data


def read_up_to(path: str, offset: int, num: int) -> bytes:
    """Read up to `num` bytes of a file from `offset` on; fewer at the end of the file.

    Raises:
        OSError: the file cannot be read.
    """
    stamp = stamp_of(path)
    num = min(num, stamp[0] - offset)  # pread allocates as much as it is asked for
    return os.pread(_handle(path, stamp).number, num, offset) if num > 0 else b""


class _Handle:
    """A file descriptor that is closed when the object is deleted."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@lru_cache(maxsize=64)
def _handle(path: str, stamp: tuple[int, int]) -> _Handle:
    return _Handle(path)
