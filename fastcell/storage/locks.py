"""Hold a folder against a second process.

The kernel drops a lock with the process, so a killed run blocks nothing. If the file system knows no locks, a file
`claim` stands for the lock of a staging folder; it is taken over from a dead process of the same machine. The soft lock
of `filelock` does not replace it: it falls back for one of the errors that file systems give (ENOSYS), and its message
cannot name the holder.
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


def hold_folder(folder: Path, out: str) -> FileLock | None:
    """Hold a folder by its file `lock`; the folder is made if it is missing.

    Args:
        folder: to hold.
        out: what is made in it, for the message.

    Returns:
        A handle for `release_folder`; the folder is held until then, or until the process ends.

    Raises:
        BusyError: another run holds it.
        OSError: it cannot be written.
    """
    path = folder / "lock"
    while True:  # until the folder is not one that another run is just removing
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _lock(path)
            if lock is None:
                _claim(folder / "claim", out)
            path.write_bytes(_myself())
        except Timeout:
            holder = read_json_file(path)
            if path.exists():
                raise _busy(out, holder) from None
        except (FileNotFoundError, FileExistsError):
            if not _may_be_made(folder):
                raise
        else:
            return lock


def release_folder(folder: Path, handle: FileLock | None, remove: bool) -> None:
    """Let go of a folder.

    Args:
        folder: as given to `hold_folder`.
        handle: that it returned.
        remove: whether the folder goes too, if nothing else is in it.
    """
    (folder / "claim").unlink(missing_ok=True)
    if remove:
        (folder / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # the next run is there already
            folder.rmdir()
    if handle is not None:
        handle.release()


@contextmanager
def hold_run_folder(folder: Path, name: str = "--resume") -> Iterator[None]:
    """Hold a run folder against a second process inside the block; the kernel lets it go with the process.

    Args:
        folder: of the run.
        name: argument that gave the folder.

    Raises:
        ArgumentError: another process trains in it.
    """
    path = folder / ".lock"
    try:
        lock = _lock(path)
    except Timeout:
        raise invalid(name, "a run that has stopped", str(folder), "Another process works in it") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        if lock is not None:
            lock.release()


def _lock(path: Path) -> FileLock | None:
    """Lock a file, which is made if it is missing; None if the file system knows no locks.

    Raises:
        Timeout: another process holds it.
        OSError: it cannot be written.
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
    """Whether it is a folder, or nothing."""
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
            if not path.exists():  # given back meanwhile
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
