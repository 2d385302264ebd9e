"""A data set at an address: its tables are copied to the cache when it is opened, its shards when they are needed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from fastcell.errors import DataError, FastcellError, invalid
from fastcell.remote.addresses import check_address
from fastcell.remote.object_cache import ObjectCache, Stopped, changed, vanished
from fastcell.remote.place import RemotePlace, Version, digest_of
from fastcell.storage.whole_files import read_json_file, replace_file, write_text

TABLES = (
    "dataset.json",
    "manifest.parquet",
    "blocks.parquet",
    "duplicates.parquet",
    "features.parquet",
    "marks.jsonl",
    "quality.parquet",
    "quarantine.parquet",
    "truth.parquet",
    "verdicts.csv",
)
_SPLIT = re.compile(r"[^/\\\x00]{1,200}\.parquet")
_VERSIONS = ".versions.json"
_CHUNK_BYTES = 32 << 20
_SECOND_TRIES = 3


@dataclass(frozen=True)
class RemoteDataset:
    """A data set at an address. It may be pickled.

    Attributes:
        place: the folder of the data set.
        cache: where objects are kept.
        folder: copy of its tables on this machine, as they were when it was opened.
        versions: versions of its objects by name, as they were listed or first asked for.
        wrong_files: inode and modification time of the first file of a shard that had wrong bytes, by name.
        shards_at: folder that the names of the shards are relative to; None for `place`.
        tables_here: the tables are those of a data set on this machine, in `folder`; only its shards are at an address.
    """

    place: RemotePlace
    cache: ObjectCache
    folder: Path
    versions: dict[str, Version] = field(default_factory=dict)
    wrong_files: dict[str, tuple[int, int]] = field(default_factory=dict)
    shards_at: RemotePlace | None = None
    tables_here: bool = False

    @classmethod
    def open(cls, address: str, cache: ObjectCache, name: str = "DATA") -> RemoteDataset:
        """Copy the tables of the data set that have changed since they were copied last.

        Args:
            address: address of its folder.
            cache: where to keep the tables, and later the shards.
            name: the argument that gave the address.

        Raises:
            ArgumentError: the address is invalid, or the cache cannot be written.
            FastcellError: the package for the scheme is not installed.
            DataError: the store cannot be reached, or somebody writes the data set at this moment.
        """
        place = RemotePlace(check_address(name, address))
        place.connect()
        digest = digest_of(place.address)
        words = re.sub(r"[^A-Za-z0-9.-]+", "-", place.address.split("://", 1)[1])[-60:].strip("-.")
        folder = cache.folder / "sets" / f"{words}-{digest[:12]}"
        with cache.lock(f"set-{digest}"):
            cache.hold_tables(folder)
            for _ in range(_SECOND_TRIES):
                versions = _listed(place)
                _copy_tables(place, folder, {name: versions[name] for name in versions if _is_table(name)})
                described = versions.get("dataset.json")
                if described is None or _asked(place.below("dataset.json")) == described:
                    cache.make_room()
                    return cls(place, cache, folder, versions)
        raise DataError(f"{place.address}: dataset.json changes all the time. Wait until the data set is written.")

    @classmethod
    def of_shards(cls, address: str, cache: ObjectCache, folder: Path) -> RemoteDataset:
        """Return the shards at an address of a data set whose tables are in a folder of this machine.

        Raises:
            ArgumentError: the address is invalid.
        """
        place = RemotePlace(check_address("shards_at", address))
        return cls(place, cache, folder, tables_here=True)

    def with_shards_at(self, address: str) -> RemoteDataset:
        """Return this data set with its shards at another address than its tables.

        Raises:
            ArgumentError: the address is invalid.
        """
        tables = {name: version for name, version in self.versions.items() if _is_table(name)}
        return replace(self, shards_at=RemotePlace(check_address("shards_at", address)), versions=tables)

    def __str__(self) -> str:
        return str(self.folder) if self.tables_here else self.place.address

    def place_of(self, name: str) -> str:
        """Return the path or address of a table or a shard, for messages."""
        if _is_table(name):
            return str(self.folder / name) if self.tables_here else self.place.below(name).address
        return self._shard(name).address

    def open_shard(self, name: str, expected_bytes: int, flags: int = os.O_RDONLY | os.O_CLOEXEC) -> int:
        """Return a file descriptor of a shard in the cache; download it if it is not there.

        Args:
            name: name of the shard in ``dataset.json``.
            expected_bytes: size in ``dataset.json``, used if the server does not tell the size.
            flags: of `os.open`.

        Raises:
            FileNotFoundError: the shard was not there when the data set was opened.
            DataError: the shard has vanished or changed since then, or cannot be read.
        """
        return self.cache.open(*self._known(name, expected_bytes), flags)

    def fetch_shard(self, name: str, expected_bytes: int) -> Path:
        """Return the path of a shard in the cache, which lasts until room is needed; see `open_shard`."""
        return self.cache.fetch(*self._known(name, expected_bytes))

    def fetch_again(self, name: str, expected_bytes: int, handle: int) -> bool:
        """Remove a file from the cache because its bytes are not those that were packed: the fault may be the cache's.

        Args:
            name, expected_bytes: see `open_shard`.
            handle: file descriptor of the file with the wrong bytes.

        Returns:
            Whether to read the shard again. False for a file that was downloaded after the first one with wrong bytes:
            those at the address are wrong.
        """
        status = os.fstat(handle)
        wrong = status.st_ino, status.st_mtime_ns
        if self.wrong_files.setdefault(name, wrong) != wrong:
            return False
        self.cache.forget(*self._known(name, expected_bytes), wrong)
        return True

    def fetch_early(self, name: str, expected_bytes: int, stop: Event) -> None:
        """Download a shard before it is needed; whatever fails is left to the reader of the shard.

        Args:
            name, expected_bytes: see `open_shard`.
            stop: ends the download early when it is set.
        """
        with suppress(Stopped, OSError, FastcellError):
            self.cache.fetch(*self._known(name, expected_bytes), stop)

    def is_cached(self, name: str, expected_bytes: int) -> bool:
        """Return whether a shard is in the cache."""
        try:
            return self.cache.path_of(*self._known(name, expected_bytes)).exists()
        except FileNotFoundError:
            return False

    def read_ranges(self, name: str, expected_bytes: int, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read ranges of a shard without the rest of it.

        Args:
            name, expected_bytes: see `open_shard`.
            ranges: (start, end) in bytes. What lies behind the end of the shard is left out.

        Raises: see `open_shard`.
        """
        place, version = self._known(name, expected_bytes)
        assert version.size is not None
        inside = [(min(start, version.size), min(end, version.size)) for start, end in ranges]
        wanted = [(start, end) for start, end in inside if start < end]
        if wanted and place.sends_ranges is False:
            return self._read_cached(name, expected_bytes, inside)
        try:
            parts = iter(place.read_ranges(wanted))
        except FileNotFoundError:
            raise vanished(place) from None
        return [next(parts) if start < end else b"" for start, end in inside]

    def _read_cached(self, name: str, expected_bytes: int, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        handle = self.open_shard(name, expected_bytes)
        try:
            return [os.pread(handle, end - start, start) for start, end in ranges]
        finally:
            os.close(handle)

    def has_shard(self, name: str) -> bool:
        """Return whether a shard is there now.

        Raises:
            DataError: the store cannot be reached.
        """
        return _asked(self._shard(name)) is not None

    def check_writable(self) -> None:
        """Check by a small object that something can be written at the address.

        Raises:
            ArgumentError: it is the address of a web server.
            DataError: the store cannot be reached or refuses to write.
        """
        if self.place.is_web:
            raise invalid("DATA", "in a place that can be written", str(self), "Copy it to a disk or an object store")
        self.place.check_writable(self.folder)

    def upload(self, name: str) -> None:
        """Write a table of `folder` at the address.

        Raises:
            DataError: another machine has written the table since it was copied, or the store cannot be reached or
                refuses to write.
        """
        with self._unchanged(name) as (place, known):
            place.write(str(self.folder / name))
            self.versions[name] = place.version()
            write_text(self.folder / _VERSIONS, json.dumps(known | {name: list(self.versions[name])}))

    def remove(self, name: str) -> None:
        """Remove a table at the address; it need not exist.

        Raises:
            DataError: see `upload`.
        """
        with self._unchanged(name) as (place, known):
            if known.pop(name, None) is not None:
                place.remove()
            self.versions.pop(name, None)
            write_text(self.folder / _VERSIONS, json.dumps(known))

    @contextmanager
    def _unchanged(self, name: str) -> Iterator[tuple[RemotePlace, dict[str, object]]]:
        """Hold the lock of the tables, and yield the place of one that nobody has written since it was copied.

        The second value holds the versions of the copied tables by name.
        """
        place = self.place.below(name)
        with self.cache.lock(f"set-{digest_of(self.place.address)}"):
            known = read_json_file(self.folder / _VERSIONS) or {}
            now = _asked(place)
            if known.get(name) != (None if now is None else list(now)):
                raise changed(place)
            yield place, known

    def _shard(self, name: str) -> RemotePlace:
        return (self.shards_at or self.place).below(name)

    def _known(self, name: str, expected_bytes: int) -> tuple[RemotePlace, Version]:
        """Return the place of a shard and its version when the data set was opened, or when it was first asked for."""
        place = self._shard(name)
        version = self.versions.get(name)
        if version is None or version.size is None:
            version = place.version()
            if version.size is None:
                version = Version(expected_bytes, version.stamp)
            self.versions[name] = version
        return place, version


def _listed(place: RemotePlace) -> dict[str, Version]:
    """Return the versions of the objects of a data set by name; size None where a web server only lists names.

    If the server lists nothing, ask for each table and the split ``default``.
    """
    if place.is_web:  # a server that cannot be reached is an error; one that lists nothing is not
        _asked(place.below("dataset.json"))
    found, splits = place.names(), place.names("splits")
    if found is None or "dataset.json" not in found:
        asked = {
            name: _asked(place.below(name)) for name in ((*TABLES, "splits/default.parquet") if found is None else ())
        }
        return {name: version for name, version in asked.items() if version is not None}
    versions = found | {f"splits/{name}": version for name, version in (splits or {}).items()}
    for name, version in list(versions.items()):
        if version.size is None and _is_table(name):
            now = _asked(place.below(name))
            if now is None:  # a link of the page to something else
                del versions[name]
            else:
                versions[name] = now
    return versions


def _is_table(name: str) -> bool:
    folder, _, rest = name.rpartition("/")
    return name in TABLES or (folder == "splits" and _SPLIT.fullmatch(rest) is not None)


def _asked(place: RemotePlace) -> Version | None:
    try:
        return place.version()
    except FileNotFoundError:
        return None


def _copy_tables(place: RemotePlace, folder: Path, versions: Mapping[str, Version]) -> None:
    """Make a folder hold the tables in these versions and no others; ``dataset.json`` is replaced last."""
    (folder / "splits").mkdir(parents=True, exist_ok=True)
    known = read_json_file(folder / _VERSIONS) or {}
    for name in [*TABLES, *(f"splits/{path.name}" for path in (folder / "splits").iterdir())]:
        if name not in versions:
            (folder / name).unlink(missing_ok=True)
            known.pop(name, None)
    stale = [name for name, version in versions.items() if known.get(name) != list(version) or not version.stamp]
    stale += [name for name in versions if name not in stale and not (folder / name).is_file()]
    for name in sorted(stale, key=lambda name: (name == "dataset.json", name)):
        known.pop(name, None)
        write_text(folder / _VERSIONS, json.dumps(known))
        _copy(place.below(name), versions[name], folder / name)
        known[name] = list(versions[name])
    write_text(folder / _VERSIONS, json.dumps(known))


def _copy(place: RemotePlace, version: Version, path: Path) -> None:
    """Copy one object to a file of this machine, which appears whole or not at all."""

    def write(file: Path) -> None:
        try:
            if version.size is None:
                file.write_bytes(place.read())
                return
            with open(file, "wb") as target:
                for start in range(0, version.size, _CHUNK_BYTES):
                    if place.sends_ranges is False:
                        place.copy_whole(target, version.size)
                        break
                    target.write(place.read_ranges([(start, min(start + _CHUNK_BYTES, version.size))])[0])
            if place.version() != version:
                raise changed(place)
        except FileNotFoundError as error:
            if error.filename is not None:
                raise
            raise vanished(place) from None

    replace_file(path, write)
