"""Write files atomically (completely or not at all), and read small JSON files that may be missing.

A file is first written under the temporary name ``.NAME.MACHINE-PID-RANDOM.partial`` in the same folder; scratch
folders have such names too. Leftovers of a killed process are removed by the next process that writes into the folder.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import socket
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fastcell.errors import invalid

_TEMPORARY = re.compile(r"\..*\.(?P<machine>[0-9a-f]{12})-(?P<pid>\d+)-[0-9a-f]{8}\.partial", re.DOTALL)
_MOST_NAME_BYTES = 80  # of NAME in the temporary name: file systems allow 255 altogether
_UNCHANGED_S = 24 * 3600.0


def file_hash(path: Path) -> str:
    """Return the hash of a file's content (128-bit BLAKE2b), 32 hexadecimal digits."""
    digest = blake2b(digest_size=16)
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically and durably.

    The first call for a folder removes the temporary files of dead processes, see `remove_dead_files`.

    Args:
        path: path of the file; an existing file is replaced.
        write: called with a temporary path in the same folder. The file written there is synced to disk and renamed.

    Raises:
        ArgumentError: `path` is a device, a pipe or a socket, which a file would replace.
    """
    if is_special(path):
        raise invalid("output", "a file", str(path), "It is a device or a pipe: name a file")
    temporary = _temporary_path(path.parent, path.name)
    os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_special(path: Path) -> bool:
    """Return whether a path leads to a device, a pipe or a socket, e.g. ``/dev/null`` or ``/dev/stdout``."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def make_scratch_folder(folder: Path) -> Path:
    """Make a new folder for scratch files in `folder`; the caller removes it, or the next process if this one dies."""
    path = _temporary_path(folder, "scratch")
    path.mkdir(mode=0o700)
    return path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder in the system's folder for temporary files, and remove it at the end of the context."""
    path = make_scratch_folder(Path(tempfile.gettempdir()))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_dead_files(folder: Path) -> None:
    """Remove temporary files and scratch folders in `folder` whose process has died.

    A file of this machine remains while its process is alive. A file of another machine or container remains until it
    has not been changed for a day.
    """
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = _TEMPORARY.fullmatch(entry.name)
            if found is None:
                continue
            with suppress(OSError):
                if found["machine"] == _machine():
                    is_dead = not is_alive(int(found["pid"]))
                else:
                    is_dead = time.time() - entry.stat(follow_symlinks=False).st_mtime > _UNCHANGED_S
                if is_dead and entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                elif is_dead:
                    Path(entry.path).unlink()


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine is alive.

    A process that has ended counts as dead even before its parent waits for it.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    return status.rpartition(b")")[2].split()[:1] not in ([b"Z"], [b"X"])


_remove_once = functools.lru_cache(maxsize=64)(lambda folder, pid: remove_dead_files(Path(folder)))


def _temporary_path(folder: Path, name: str) -> Path:
    """Return a new name in `folder`, from which dead processes' temporary files are first removed."""
    _remove_once(str(folder.absolute()), os.getpid())
    start = os.fsdecode(os.fsencode(name)[:_MOST_NAME_BYTES])
    return folder / f".{start}.{_machine()}-{os.getpid()}-{os.urandom(4).hex()}.partial"


@functools.cache
def _machine() -> str:
    """Return a name for the scope in which process ids are unique: the boot of this machine, and the container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").stat().st_ino)]
    return blake2b("\n".join(parts).encode("utf-8", "replace"), digest_size=6).hexdigest()


def file_crc32(path: Path) -> int:
    """Return the CRC-32 of a file."""
    crc = 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(1 << 20):
            crc = zlib.crc32(data, crc)
    return crc


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically, in UTF-8."""
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write plain values as JSON, atomically."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def read_json_file(path: Path) -> Any:
    """Return the values of a JSON file; None if the file is missing, cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def sync_folder(path: Path) -> None:
    """Wait until the directory entries of a folder are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
