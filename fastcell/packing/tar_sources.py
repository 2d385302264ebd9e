"""The tars that ``fastcell index`` reads: files of this machine, objects at addresses, and the output of commands.

A text is a folder, the address of a folder, or names of tars in webdataset's notation: ``{000000..000123}`` stands for
numbers, ``::`` separates names, ``pipe:COMMAND`` is the output of a command. webdataset expands the notation.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastcell.errors import ArgumentError, DataError, invalid
from fastcell.remote.addresses import check_address, scheme_of
from fastcell.remote.object_cache import ObjectCache
from fastcell.remote.place import RemotePlace, Version
from fastcell.remote.remote_dataset import RemoteDataset
from fastcell.sources.base import file_stamp
from fastcell.sources.webdataset_samples import CLASS_FILES, check_tar_names, find_tars, read_class_file
from fastcell.storage.places import local_path
from fastcell.storage.staging import Staging
from fastcell.storage.whole_files import replace_file

_PIPE = "pipe:"
_CHUNK_BYTES = 1 << 20
_REQUESTS = 8
_MOST_CLASS_BYTES = 1 << 22


@dataclass(frozen=True)
class TarSource:
    """One tar, as it is sent to a worker.

    Attributes:
        name: name of the shard in ``dataset.json``.
        path: file of this machine; for an object, its address.
        place, version: the object at an address; None for a file.
        cache: where objects are kept.
    """

    name: str
    path: str
    place: RemotePlace | None = None
    version: Version | None = None
    cache: ObjectCache | None = None

    @property
    def num_bytes(self) -> int:
        """Size of the tar."""
        if self.version is not None:
            return self.version.size or 0
        return os.stat(self.path).st_size  # noqa: PTH116

    @property
    def stamp(self) -> str:
        """Text that changes if the tar changes."""
        return file_stamp(self.path) if self.version is None else f"{self.version.size} {self.version.stamp}"

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yield a path under which the tar can be read; an object is downloaded first, and stays until the block ends.

        Raises:
            DataError: the object is gone, has changed, or cannot be read.
        """
        if self.place is None or self.version is None or self.cache is None:
            yield Path(self.path)
            return
        handle = self.cache.open(self.place, self.version)
        try:
            yield Path(f"/proc/self/fd/{handle}")  # stays readable if the cache removes the file to make room
        except DataError as error:
            raise DataError(str(error).replace(f"/proc/self/fd/{handle}", self.path)) from None
        finally:
            os.close(handle)


@dataclass(frozen=True)
class FoundTars:
    """The tars of one text.

    Attributes:
        place: folder that the names of the tars are relative to; its address for objects. Empty for commands alone.
        files: paths of tars on this machine.
        objects: addresses of tars, each with its version, or None if it is not known yet.
        commands: commands that print tars.
    """

    place: str
    files: Sequence[Path] = ()
    objects: Mapping[str, Version | None] = field(default_factory=dict)
    commands: Sequence[str] = ()

    def __str__(self) -> str:
        return self.place or self.commands[0]

    @property
    def identity(self) -> object:
        """Identity of these tars, for a run that continues after an interrupt; tars may be added to a folder."""
        return list(self.commands) or self.address or str(Path(self.place).resolve())

    @property
    def address(self) -> str | None:
        """Address that the names of the tars are relative to; None for tars on this machine."""
        return self.place if self.objects else None

    def sources(self, base: Path, stage: Staging) -> list[TarSource]:
        """Return the tars with their names; save the output of commands first.

        Args:
            base: folder of the data set, which names of files are relative to.
            stage: where the output of commands is saved; it becomes a part of the data set.

        Raises:
            DataError: an object is gone, the store cannot be reached, or a command fails.
        """
        if self.objects:
            return self._of_objects()
        if self.commands:
            return [_saved(command, number, stage) for number, command in enumerate(self.commands)]
        names = [os.path.relpath(path.resolve(), base).replace(os.sep, "/") for path in self.files]
        return [TarSource(name, str(path.resolve())) for name, path in zip(names, self.files, strict=True)]

    def shards(self, folder: Path) -> RemoteDataset | None:
        """Return a reader of tars at an address, for a data set in `folder`; None for tars on this machine."""
        return RemoteDataset.of_shards(self.place, ObjectCache.of(), folder) if self.objects else None

    def class_names(self) -> list[str] | None:
        """Return the names in ``classes.txt`` or ``labels.txt`` beside the tars; None without such a file."""
        if self.commands:
            return None
        if not self.objects:
            return read_class_file(Path(self.place))
        for name in CLASS_FILES:
            place = RemotePlace(self.place).below(name)
            try:
                size = place.version().size
                if size is not None and size > _MOST_CLASS_BYTES:
                    raise DataError(f"{place.address} has {size:,} bytes, too many for a list of classes. Correct it.")
                data = place.read()
            except FileNotFoundError:
                continue
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / name).write_bytes(data)
                try:
                    return read_class_file(Path(folder))
                except (ArgumentError, DataError) as error:
                    raise type(error)(str(error).replace(str(Path(folder) / name), place.address)) from None
        return None

    def _of_objects(self) -> list[TarSource]:
        cache = ObjectCache.of()

        def source(address: str) -> TarSource:
            place, version = RemotePlace(address), self.objects[address]
            try:
                version = version if version is not None and version.size is not None else place.version()
            except FileNotFoundError:
                raise DataError(f"{address} does not exist. Check the name.") from None
            if version.size is None:
                raise DataError(f"{address}: the server does not tell its size. Copy the tar to a disk.")
            return TarSource(address[len(self.place) + 1 :], address, place, version, cache)

        with ThreadPoolExecutor(_REQUESTS) as pool:
            return list(pool.map(source, self.objects))


def find_tar_sources(text: str) -> FoundTars:
    """Return the tars that a text names.

    Args:
        text: folder, address of a folder, or names in webdataset's notation.

    Raises:
        ArgumentError: the folder or a file does not exist, an address is invalid, or the names mix files, objects and
            commands, or objects of several stores.
        FastcellError: the package for an address is not installed.
        DataError: there is no tar, there are compressed tars, or the store cannot be reached.
    """
    if not _is_notation(text):
        if scheme_of(text) is not None:
            return _found_at(text)
        folder = local_path("TARS", text)
        return FoundTars(str(folder), files=find_tars(folder))
    from webdataset.shardlists import expand_urls

    try:
        names = [name for name in expand_urls(text) if name]
    except (AssertionError, ValueError) as error:  # a variable that is not set, or braces without their end
        raise invalid("TARS", "in webdataset's notation", text, f"It says: {error}") from None
    kinds = {_PIPE if name.startswith(_PIPE) else scheme_of(name) for name in names}
    if len(kinds) != 1:
        raise invalid("TARS", "tars of one kind", text, "Index files, tars of each store, and commands separately")
    kind = kinds.pop()
    if kind == _PIPE:
        return FoundTars("", commands=[name.removeprefix(_PIPE) for name in names])
    if kind is not None:
        addresses = [check_address("TARS", name) for name in names]
        return FoundTars(_common_address(addresses), objects=dict.fromkeys(addresses))
    files = [local_path("TARS", name.removeprefix("file:") if name.startswith("file:/") else name) for name in names]
    for file in files:
        if not file.is_file():
            raise invalid("TARS", "names of tars that exist", str(file), "Check the name")
    return FoundTars(os.path.commonpath([file.resolve().parent for file in files]), files=files)


def _is_notation(text: str) -> bool:
    if scheme_of(text) is None and Path(text).exists() and not Path(text).is_file():
        return False
    return text.startswith(_PIPE) or "::" in text or "{" in text or text.lower().endswith(".tar")


def _found_at(address: str) -> FoundTars:
    """Return the tars below an address; of a web server, those of its index page."""
    place = RemotePlace(check_address("TARS", address))
    place.connect()
    names = place.names_below()
    if names is None:
        hint = "Name the tars, for example {place}/cells-{{000000..000123}}.tar"
        raise DataError(f"{place.address}: the server does not list the folder. {hint.format(place=place.address)}.")
    seen = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    tars = check_tar_names(place.address, seen)
    return FoundTars(place.address, objects={f"{place.address}/{name}": names[name] for name in tars})


def _common_address(addresses: Sequence[str]) -> str:
    """Return the address of the deepest folder that has all objects below it."""
    schemes = {scheme_of(address) for address in addresses}
    folder = posixpath.commonpath([posixpath.dirname(address.partition("://")[2]) for address in addresses])
    if len(schemes) > 1 or not folder:
        hint = "Index the tars of each store or server separately"
        raise invalid("TARS", "addresses of one store", f"{addresses[0]} and others", hint)
    return f"{addresses[0].partition('://')[0]}://{folder}"


def _saved(command: str, number: int, stage: Staging) -> TarSource:
    """Save the output of a command as a file; an output that an interrupted run has saved is used unchanged."""
    path = stage.data_dir / f"{number:06d}.tar"
    if not path.exists():
        replace_file(path, lambda file: _save_output(command, file))
        (stage.saved_dir / f"{path.name}.saved").touch()
    return TarSource(path.name, str(path))


def _save_output(command: str, file: Path) -> None:
    from webdataset.gopen import gopen_pipe

    try:
        with gopen_pipe(_PIPE + command, "rb") as pipe, open(file, "wb") as target:
            shutil.copyfileobj(pipe, target, _CHUNK_BYTES)
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"the command {command!r} fails. Run it alone to see why.") from None
