"""Locks of folders, so that two processes do not write into the same folder.

The kernel releases a lock when its process ends, so a killed run blocks nothing. On a file system without locks, a file
`claim` replaces the lock of a staging folder; a claim of a dead process on the same machine is replaced. The soft lock
of `filelock` is no substitute: it covers only one of the errors of such file systems (ENOSYS), and its message cannot
name the holder.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fastcell.errors import BusyError, invalid
from fastcell.storage.whole_files import is_alive, read_json_file

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}
_MOST_TRIES = 1000
"""Number of attempts to create and lock a folder. Other runs can make a few fail; a file system such as /proc makes all
fail (ENOENT).
"""


def hold_folder(folder: Path, out: str) -> FileLock | None:
    """Lock a folder with its file `lock`; create the folder if it is missing.

    Args:
        folder: folder to lock.
        out: output that is made in the folder, for the error message.

    Returns:
        A handle for `release_folder`. The lock ends with that call, or with the process.

    Raises:
        BusyError: another run has locked the folder.
        OSError: the folder cannot be written.
    """
    path = folder / "lock"
    tries = 0
    while True:  # repeat if another run removes the folder at this moment
        tries += 1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _lock(path)
            if lock is None:
                _claim(folder / "claim", out)
            path.write_bytes(_myself())
        except Timeout:
            holder = read_json_file(path)
            if path.exists() or tries == _MOST_TRIES:
                raise _busy(out, holder) from None
        except (FileNotFoundError, FileExistsError):
            if not _may_be_made(folder) or tries == _MOST_TRIES:
                raise
        else:
            return lock


def release_folder(folder: Path, handle: FileLock | None, remove: bool) -> None:
    """Release a folder.

    Args:
        folder: folder given to `hold_folder`.
        handle: handle returned by `hold_folder`.
        remove: also remove the folder if it is otherwise empty.
    """
    (folder / "claim").unlink(missing_ok=True)
    if remove:
        (folder / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # the next run uses it already
            folder.rmdir()
    if handle is not None:
        handle.release()


@contextmanager
def hold_run_folder(folder: Path, name: str = "--resume") -> Iterator[None]:
    """Lock a run folder inside the block, so that no second process trains in it.

    Args:
        folder: the run folder.
        name: name of the argument that gave the folder.

    Raises:
        ArgumentError: another process trains in the folder.
    """
    path = folder / ".lock"
    try:
        lock = _lock(path)
    except Timeout:
        raise invalid(
            name, "a run that has stopped", str(folder), "Wait for the process that trains in it, or stop it"
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        if lock is not None:
            lock.release()


def _lock(path: Path) -> FileLock | None:
    """Lock a file, and create it if it is missing. Return None if the file system has no locks.

    Raises:
        Timeout: another process has locked the file.
        OSError: the file cannot be written.
    """
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return lock


def _may_be_made(folder: Path) -> bool:
    """Return True if the path is a folder or does not exist."""
    try:
        return stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        return not folder.is_symlink()


def _claim(path: Path, out: str) -> None:
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            holder = read_json_file(path) or {}
            if not os.path.lexists(path):  # released in the meantime
                continue
            if holder.get("host") != socket.gethostname() or _lives(holder.get("pid")):
                raise _busy(out, holder, f", or remove {path} if that run is gone") from None
            path.unlink(missing_ok=True)
            continue
        os.write(handle, _myself())
        os.close(handle)
        return


def _busy(out: str, holder: dict[str, object] | None, otherwise: str = "") -> BusyError:
    who = ""
    if holder:
        who = f" (process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')})"
    return BusyError(f"OUT must be free, got {out!r}, which another run{who} is making. Wait for it{otherwise}.")


def _myself() -> bytes:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now}).encode()


def _lives(pid: object) -> bool:
    try:
        return is_alive(int(str(pid)))
    except ValueError:
        return False
