"""Write data sets and files to addresses: they are made in the cache folder first, and uploaded when they are complete.

The folder of an upload is kept until its last object is written, so that the same command goes on after a crash. The
object that makes a data set, ``dataset.json``, is written last.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from fastcell.errors import DataError, invalid
from fastcell.remote.addresses import check_address, scheme_of
from fastcell.remote.object_cache import ObjectCache
from fastcell.remote.place import RemotePlace, Version, digest_of
from fastcell.storage.whole_files import read_json_file, write_text
from fastcell.system.messages import shown_as
from fastcell.system.progress_line import Progress

T = TypeVar("T")

_LAST = "dataset.json"
_UPLOADS = 4


def make_dataset_at(out: str, job: str, make: Callable[[str], T], verbose: bool = False) -> T:
    """Make a data set at an address, or in a folder of this machine.

    Args:
        out: address or folder.
        job: everything that determines the data set, as text. An interrupted upload goes on only for the same job.
        make: makes the data set in a folder of this machine, which it is given, and returns something about it.
        verbose: print rate and remaining time of the upload to stderr.

    Returns:
        What `make` returned. For an upload that goes on, the data set is not made again, but `make` is called with the
        folder that has it.

    Raises:
        ArgumentError: the address is of a web server, or has a data set already.
        FastcellError: the package for the scheme is not installed.
        DataError: the store cannot be reached or refuses to write.
    """
    if scheme_of(out) is None:
        return make(out)
    place = _writable("OUT", out)
    try:
        place.below(_LAST).version()
    except FileNotFoundError:
        pass
    else:
        raise invalid("OUT", "a place without a data set", place.address, "Name another place, or remove it first")
    with _upload_folder(place) as folder:
        made = folder / (place.address.rsplit("/", 1)[1] or "cells")
        place.check_writable(folder)
        if (read_json_file(folder / "job.json") or {}).get("job") != job:
            _clear(folder)
            write_text(folder / "job.json", json.dumps({"job": job}))
        result = make(str(made))
        _upload(made, place, folder / "done.json", verbose)
        _clear(folder)
        return result


@contextmanager
def file_at(name: str, out: str) -> Iterator[str]:
    """Yield a path for a file of this machine that is uploaded to an address at the end of the block.

    Args:
        name: the argument that gave the address.
        out: address; a path of this machine is yielded as it is.

    Raises:
        ArgumentError: the address is of a web server.
        FastcellError: the package for the scheme is not installed.
        DataError: the store cannot be reached or refuses to write.
    """
    if scheme_of(out) is None:
        yield out
        return
    place = _writable(name, out)
    folder = _folder_of(place)
    folder.mkdir(parents=True, exist_ok=True)
    place.below("..").check_writable(folder)
    path = folder / place.address.rsplit("/", 1)[1]
    with shown_as(str(path), place.address):
        yield str(path)
    if path.is_file():  # else other processes of the same command have written it
        try:
            place.write(str(path))
        except DataError as error:
            raise DataError(f"{error} The file is kept as {path}.") from None
        shutil.rmtree(folder, ignore_errors=True)


def _writable(name: str, out: str) -> RemotePlace:
    place = RemotePlace(check_address(name, out))
    if place.is_web:
        raise invalid(name, "a place that can be written", place.address, "Name a folder, or an address of a store")
    place.connect()
    return place


def _folder_of(place: RemotePlace) -> Path:
    return ObjectCache.of().folder / "uploads" / digest_of(place.address)


@contextmanager
def _upload_folder(place: RemotePlace) -> Iterator[Path]:
    """Hold the folder of an upload inside the block."""
    folder = _folder_of(place)
    with ObjectCache.of().lock(f"upload-{folder.name}"):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    with suppress(OSError):
        folder.rmdir()


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _upload(folder: Path, place: RemotePlace, record: Path, verbose: bool) -> None:
    """Write the files of a folder to an address, ``dataset.json`` last; skip those that the record has as written."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names.remove(_LAST)
    done: dict[str, list[object]] = read_json_file(record) or {}

    def write(name: str) -> tuple[str, Version]:
        target = place.below(name)
        if name in done:
            with suppress(FileNotFoundError):
                version = target.version()
                if list(version) == done[name]:
                    return name, version
        target.write(str(folder / name))
        return name, target.version()

    with (
        ThreadPoolExecutor(_UPLOADS, "fastcell-upload") as pool,
        Progress(len(names), "files", show=verbose) as progress,
    ):
        for name, version in pool.map(write, names):
            done[name] = list(version)
            write_text(record, json.dumps(done))
            progress.advance(1)
    place.below(_LAST).write(os.fspath(folder / _LAST))
