"""Hold a folder against a second process.

The kernel drops a lock with the process, so a killed run blocks nothing. If the file system knows no locks, a file
`claim` stands for the lock of a staging folder; it is taken over from a dead process of the same machine.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastcell.errors import BusyError, invalid
from fastcell.storage.whole_files import read_json_file

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}
_held: set[int] = set()


def hold_folder(folder: Path, out: str) -> int:
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder.mkdir(exist_ok=True)
        try:
            handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the run that held it has just removed it
            continue
        try:
            _hold(handle, folder, out)
            if _is_at(handle, folder / "lock"):
                os.ftruncate(handle, 0)
                os.pwrite(handle, _myself(), 0)
                _held.add(handle)
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def release_folder(folder: Path, handle: int, remove: bool) -> None:
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
    _held.discard(handle)
    os.close(handle)


@contextmanager
def hold_run_folder(folder: Path, name: str = "--resume") -> Iterator[None]:
    """Hold a run folder against a second process inside the block; the kernel lets it go with the process.

    Args:
        folder: of the run.
        name: argument that gave the folder.

    Raises:
        ArgumentError: another process trains in it.
    """
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise invalid(name, "a run that has stopped", str(folder), "Another process works in it") from None
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            (folder / ".lock").unlink(missing_ok=True)


def _hold(handle: int, folder: Path, out: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _busy(out, read_json_file(folder / "lock")) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _claim(folder / "claim", out)


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
        os.kill(int(str(pid)), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """A forked child that outlives us must not hold our lock."""
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
