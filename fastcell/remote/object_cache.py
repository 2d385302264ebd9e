"""A folder of this machine for whole objects and tables, shared by all processes: least recently used ones go first.

::

    DIR/objects/DIGEST/NAME    an object; DIGEST names its address and version, the access time says when it was used
    DIR/objects/DIGEST/part    the beginning of an object that is being downloaded, or whose download was interrupted
    DIR/objects/DIGEST/size    bytes that the object will have
    DIR/locks/                 locks of objects, of the room in the cache and of the tables of data sets
    DIR/sets/NAME/             tables of a data set (`fastcell.remote.remote_dataset`); processes that use them hold a
                               lock of NAME/.in_use, whose modification time says when the data set was opened

An object is written to ``part``, in order, and renamed when it is complete, so a killed process leaves nothing that
looks complete, and the next download continues behind the last byte. An object that is removed while a process reads
it stays readable for that process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from filelock import FileLock

from fastcell.errors import ArgumentError, DataError, invalid
from fastcell.remote.place import RemotePlace, Version, digest_of
from fastcell.system.resources import cache_dir

LIMIT_VARIABLE = "FASTCELL_CACHE_GIB"
DEFAULT_GIB = 64.0
_CHUNK_BYTES = 8 << 20
_AT_ONCE = 4
_IN_USE = ".in_use"
_HELD: dict[Path, int] = {}  # locks of the tables that this process uses
_STALE_S = 7 * 24 * 3600.0
"""Age from which on a partly downloaded object may be removed to make room."""


class Stopped(Exception):  # noqa: N818, an order and no fault
    """A download was ended early on request."""


@dataclass(frozen=True)
class ObjectCache:
    """Cache of whole objects.

    Attributes:
        folder: its folder; created on use.
        most_bytes: bytes that its objects may have together.
    """

    folder: Path
    most_bytes: int

    @classmethod
    def of(cls, folder: str | os.PathLike[str] | None = None, gib: float | None = None) -> ObjectCache:
        """Return the cache in a folder.

        Args:
            folder: None for ``remote`` in fastcell's cache folder (``$FASTCELL_CACHE_DIR``).
            gib: size limit [GiB]; None for ``$FASTCELL_CACHE_GIB``, or 64.

        Raises:
            ArgumentError: the limit is no positive number.
        """
        name = "cache_gib"
        if gib is None:
            text = os.environ.get(LIMIT_VARIABLE, "").strip() or str(DEFAULT_GIB)
            name = LIMIT_VARIABLE
            try:
                gib = float(text)
            except ValueError:
                gib = float("nan")
        if not 0 < gib < 1 << 33:
            raise invalid(name, "a positive number of GiB", gib, f"Leave it out for {DEFAULT_GIB:g}")
        place = cache_dir() / "remote" if folder is None else Path(folder).expanduser().absolute()
        return cls(place, int(gib * 2**30))

    def path_of(self, place: RemotePlace, version: Version) -> Path:
        """Return the path that a version of an object has in the cache, whether it is there or not."""
        name = place.address.rsplit("/", 1)[-1] or "object"
        return self.folder / "objects" / digest_of(place.address, str(version.size), version.stamp) / name

    def open(self, place: RemotePlace, version: Version, flags: int = os.O_RDONLY | os.O_CLOEXEC) -> int:
        """Return a file descriptor of an object, which is downloaded if it is not in the cache.

        Args:
            place: the object.
            version: its version. The size must be known.
            flags: of `os.open`.

        Raises:
            ArgumentError: the object is larger than the cache, or the cache cannot be written.
            DataError: the object is gone or has another version now, or cannot be read.
        """
        path = self.path_of(place, version)
        while True:  # another process may make room between the download and this open
            try:
                number = os.open(path, flags)
            except FileNotFoundError:
                self.fetch(place, version)
                continue
            with suppress(OSError):
                os.utime(number, ns=(time.time_ns(), os.fstat(number).st_mtime_ns))
            return number

    def fetch(self, place: RemotePlace, version: Version, stop: Event | None = None) -> Path:
        """Download an object unless it is in the cache; return its path, which lasts until room is needed.

        Args:
            place, version: see `open`.
            stop: ends the download early when it is set; the next one continues.

        Raises:
            Stopped: `stop` was set.
            DataError, ArgumentError: see `open`.
        """
        path = self.path_of(place, version)
        if path.exists():
            return path
        assert version.size is not None
        if version.size > self.most_bytes:
            hint = f"Allow at least {version.size / 2**30:.3g} GiB: --data.cache_gib, or ${LIMIT_VARIABLE}"
            raise invalid("cache_gib", f"enough for {place.address}", f"{self.most_bytes / 2**30:.3g}", hint)
        for is_last in (False, False, True):
            with self.lock(path.parent.name[:2]), self._explained():
                if path.exists():
                    break
                self._reserve(path, version.size)
                try:
                    self._download(place, version, path, stop)
                    break
                except FileNotFoundError as error:
                    if error.filename is None:
                        raise vanished(place) from None
                    if is_last:  # else somebody has removed the folder by hand
                        raise
        return path

    def forget(self, place: RemotePlace, version: Version, wrong: tuple[int, int]) -> None:
        """Remove an object from the cache if it is still the file with this inode and modification time [ns]."""
        path = self.path_of(place, version)
        with self.lock(path.parent.name[:2]), suppress(FileNotFoundError):
            status = path.stat()
            if (status.st_ino, status.st_mtime_ns) == wrong:
                path.unlink()

    def hold_tables(self, folder: Path) -> None:
        """Keep the tables of a data set until this process ends, and mark them as used now.

        Args:
            folder: folder in ``sets``; created if it does not exist.
        """
        with self._explained():
            while True:
                _made(folder)
                handle = _lock_tables(folder)
                if handle is not None:
                    break
        before = _HELD.pop(folder, None)
        _HELD[folder] = handle
        if before is not None:
            os.close(before)

    def make_room(self) -> None:
        """Remove what was used longest ago, shards and tables, until the cache is within its limit."""
        with self._explained():
            self._reserve(None, 0)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock of the cache inside the block; wait while another process or thread holds it.

        Raises:
            ArgumentError: the folder cannot be written or has no locks.
        """
        with self._explained():
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
            lock = FileLock(
                self.folder / "locks" / name, thread_local=False, is_singleton=False, fallback_to_soft=False
            )
            lock.acquire(poll_interval=0.02)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the disk into one that names the cache."""
        try:
            yield
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> ArgumentError:
        reason = (error.strerror or str(error)).lower()
        hint = "Name another folder: --data.cache, or $FASTCELL_CACHE_DIR"
        return ArgumentError(
            f"cache must be a folder that can be written, got {str(self.folder)!r} ({reason}). {hint}."
        )

    def _reserve(self, path: Path | None, size: int) -> None:
        """Make room for an object and note its size: from now on other processes count it, and do not remove it."""
        own = None if path is None else path.parent
        with self.lock("room"):
            objects = [_Object.at(item) for item in os.scandir(_made(self.folder / "objects"))]
            objects += [_Object.of_tables(item) for item in os.scandir(_made(self.folder / "sets")) if _is_free(item)]
            total = sum(item.num_bytes for item in objects if item.path != own)
            for item in sorted(objects, key=lambda item: item.used):
                if total + size <= self.most_bytes:
                    break
                if item.path != own and not item.is_young_part and item.remove():
                    total -= item.num_bytes
            if own is not None:
                own.mkdir(exist_ok=True)
                (own / "part").touch()
                (own / "size").write_text(str(size))

    def _download(self, place: RemotePlace, version: Version, path: Path, stop: Event | None) -> None:
        size, part = version.size or 0, path.parent / "part"
        with open(part, "ab") as file:
            done = file.tell()
            if done > size:
                file.truncate(0)
                done = 0
            while done < size:
                _check(stop)
                edges = range(done, min(size, done + _AT_ONCE * _CHUNK_BYTES), _CHUNK_BYTES)
                ranges = [(edge, min(edge + _CHUNK_BYTES, size)) for edge in edges]
                try:
                    if place.sends_ranges is False:
                        place.copy_whole(file, size, lambda: _check(stop))
                        break
                    parts = place.read_ranges(ranges)
                except DataError:
                    if not place.version().may_be(version):
                        raise changed(place) from None
                    raise
                for data in parts:
                    file.write(data)
                    done += len(data)
            file.flush()
            os.fsync(file.fileno())
        if not place.version().may_be(version):
            part.unlink()
            raise changed(place)
        part.rename(path)


def _lock_tables(folder: Path) -> int | None:
    """Open and lock the file that says that tables are in use, as of now; None if a process has removed them."""
    handle = os.open(folder / _IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        if os.fstat(handle).st_ino == (folder / _IN_USE).stat().st_ino:
            os.utime(handle)
            return handle
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _check(stop: Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Stopped


def _is_free(item: os.DirEntry[str]) -> bool:
    """Return whether no process holds the tables in a folder."""
    with _only_user(Path(item.path)) as is_free:
        return is_free


@contextmanager
def _only_user(folder: Path) -> Iterator[bool]:
    """Hold the lock of tables alone inside the block and yield True; yield False if a process uses them."""
    try:
        handle = os.open(folder / _IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)


@dataclass(frozen=True)
class _Object:
    """An object in the cache, complete or not, or the tables of a data set.

    Attributes:
        path: its folder.
        num_bytes: bytes that it has or will have.
        used: time of the last use [s since 1970].
        is_young_part: incomplete, and younger than a week.
        is_tables: tables of a data set.
    """

    path: Path
    num_bytes: int
    used: float
    is_young_part: bool
    is_tables: bool = False

    @classmethod
    def of_tables(cls, item: os.DirEntry[str]) -> _Object:
        size, used, path = 0, 0.0, Path(item.path)
        with suppress(OSError):
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            used = (path / _IN_USE).stat().st_mtime
        return cls(path, size, used, False, is_tables=True)

    def remove(self) -> bool:
        """Remove it; return False for tables that a process uses."""
        with _only_user(self.path) if self.is_tables else nullcontext(True) as is_free:
            if is_free:
                shutil.rmtree(self.path, ignore_errors=True)
        return is_free

    @classmethod
    def at(cls, item: os.DirEntry[str]) -> _Object:
        size, used, is_part = 0, 0.0, False
        with suppress(OSError, ValueError):
            for file in os.scandir(item.path):
                status = file.stat()
                wanted = int(Path(file.path).read_text()) if file.name == "size" else status.st_size
                size, used = max(size, wanted), max(used, status.st_atime if file.name != "size" else 0)
                is_part |= file.name == "part"
        return cls(Path(item.path), size, used, is_part and time.time() - used < _STALE_S)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def changed(place: RemotePlace) -> DataError:
    """Return the error for an object that has another version than when it was opened."""
    hint = "Run the command again when nobody writes the data set"
    return DataError(f"{place.address} has changed since the data set was opened. {hint}.")


def vanished(place: RemotePlace) -> DataError:
    """Return the error for an object that is gone since it was opened."""
    hint = "Restore it, or run the command again: cells of a missing shard count as corrupt"
    return DataError(f"{place.address} has vanished since the data set was opened. {hint}.")
