"""Staging: make a data set in a hidden, locked folder, then rename it; reuse the folder of a killed run.

    .OUT.partial/
        lock                 locked while a run is alive; names its process
        run-1a2b3c4d/        renamed by each run, so that workers of a killed run cannot write into it
            job.json         everything that determines the bytes of the shards
            data/            becomes OUT
            saved/           finished pieces for a later run (`fastcell.storage.saved_pieces`)

A killed run blocks nothing, see `fastcell.storage.locks`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock

from fastcell import __version__
from fastcell.errors import ArgumentError, BusyError, DataError, FastcellError, invalid
from fastcell.storage.locks import hold_folder, release_folder
from fastcell.storage.places import local_path
from fastcell.storage.whole_files import read_json_file, sync_folder, write_text

_PLACING = "placing.json"
_STAGED = re.compile("lock|claim|run-[0-9a-f]{8}")
_MOST_NAME_BYTES = 200


def _silent(line: str) -> None:
    pass


@dataclass
class Staging:
    """Staging folder of one run.

    Attributes:
        run_dir: folder of this run only.
        unit: name of a saved piece in messages: `shard` or `part`.
        say: function that receives one line for the user.
        num_saved: number of pieces saved by an earlier run of the same job; 0 before `begin`.
    """

    run_dir: Path
    unit: str = "shard"
    say: Callable[[str], None] = _silent
    num_saved: int = 0
    begun: bool = False

    @property
    def data_dir(self) -> Path:
        """Folder of the files of the data set; `put_in_place` moves them to the output."""
        return self.run_dir / "data"

    @property
    def saved_dir(self) -> Path:
        """Folder of the finished pieces for a later run, see `fastcell.storage.saved_pieces`."""
        return self.run_dir / "saved"

    def begin(self, job: Mapping[str, object]) -> None:
        """Keep the pieces that an interrupted run of the same job has saved; remove those of another job.

        Args:
            job: everything that determines the bytes, as values for JSON.
        """
        self.begun = True
        given = json.loads(json.dumps(job))
        found = read_json_file(self.run_dir / "job.json")
        num = self.count()
        if given == found:
            self.num_saved = num
            for path in self.data_dir.iterdir():
                if not (self.saved_dir / f"{path.name}.saved").exists():  # unfinished, or written at the end
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            if num:
                self.say(f"resuming: an interrupted run has finished {_counted(num, self.unit)}")
            return
        if num and found:
            other = ", ".join(sorted(key for key in {*given, *found} if given.get(key) != found.get(key)))
            pieces = _counted(num, f"finished {self.unit}")
            self.say(f"starting from the beginning: removed {pieces} of an interrupted run with different {other}")
        for folder in (self.saved_dir, self.data_dir):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        write_text(self.run_dir / "job.json", json.dumps(given, indent=1))

    def count(self) -> int:
        """Return the number of saved pieces."""
        return sum(1 for _ in self.saved_dir.glob("*.saved"))

    def keeps(self, error: BaseException) -> bool:
        """Return True if the next run can use the saved pieces; False after invalid arguments or a refused data set."""
        if not self.count():
            return False
        if not self.begun or not isinstance(error, FastcellError):
            return True
        return isinstance(error, DataError) and self.num_saved > 0


@contextmanager
def staging(out_dir: str | os.PathLike[str]) -> Iterator[Path]:
    """Open a hidden folder for a new data set. `finish_dataset` renames it to `out_dir`; a failure removes it.

    Args:
        out_dir: folder of the data set; must not exist, or must be empty.

    Raises:
        ArgumentError: `out_dir` is a file, or a folder that is not empty.
        BusyError: another run is making the same data set.
        OSError: the folder cannot be written.
    """
    with open_staging(out_dir) as stage:
        stage.begin({})
        yield stage.data_dir


@contextmanager
def open_staging(
    out_dir: str | os.PathLike[str], say: Callable[[str], None] = _silent, unit: str = "shard"
) -> Iterator[Staging]:
    """Like `staging`, for a job that resumes an interrupted run, see `Staging.begin`.

    Args:
        out_dir: folder of the data set; must not exist, or must be empty.
        say: function that receives one line for the user.
        unit: name of a saved piece in messages.

    Raises:
        ArgumentError, BusyError, OSError: see `staging`.
    """
    out = local_path("OUT", out_dir).resolve()
    # A renamed folder cannot replace a mounted volume, nor a folder whose parent is not writable.
    inside = out.is_dir() and (os.path.ismount(out) or not os.access(out.parent, os.W_OK))
    folder = (out if inside else out.parent) / _hidden_name(out)
    if not folder.exists():
        _refuse_taken(out, out_dir, folder)
    with _locked_run(folder, out_dir, unit, say) as stage:
        _take_back(stage, out)
        try:
            _refuse_taken(out, out_dir, folder)
        except ArgumentError:
            if (out / "dataset.json").exists():  # the run was killed after it had finished
                _empty(stage.run_dir)
            raise
        yield stage


@contextmanager
def open_staging_in(folder: Path, say: Callable[[str], None] = _silent) -> Iterator[Staging]:
    """Like `open_staging`, for files that are added to an existing folder with other files.

    Raises:
        BusyError: another run does the same.
        OSError: the folder cannot be written.
    """
    with _locked_run(folder.resolve() / ".index.partial", folder, "part", say) as stage:
        placed = "dataset.json" in (read_json_file(stage.run_dir / _PLACING) or [])
        if placed and not (stage.data_dir / "dataset.json").exists():  # the run was killed after it had finished
            _empty(stage.run_dir)
        yield stage


@contextmanager
def open_staging_of(file: Path, say: Callable[[str], None] = _silent) -> Iterator[Staging]:
    """Like `open_staging`, for a single file that the caller assembles from parts and writes.

    Raises:
        BusyError: another run makes the same file.
        OSError: the file cannot be written.
    """
    file = file.resolve()
    with _locked_run(file.parent / _hidden_name(file), file, "part", say) as stage:
        yield stage


def put_in_place(tmp_dir: Path, out: Path) -> Path:
    """Rename the folder to `out`; inside a mounted volume or an existing folder, rename its files, dataset.json last.

    Args:
        tmp_dir: `Staging.data_dir`.
        out: absolute path of the output folder.

    Raises:
        ArgumentError: `out` was filled in the meantime.
    """
    sync_folder(tmp_dir)
    if out in tmp_dir.parents:
        names = sorted(os.listdir(tmp_dir), key=lambda name: (name == "dataset.json", name))
        write_text(tmp_dir.parent / _PLACING, json.dumps(names))
        for name in names:
            (tmp_dir / name).rename(out / name)
        sync_folder(out)
    else:
        try:
            tmp_dir.rename(out)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            hint = "Another run filled it in the meantime: use its result, or name another folder"
            raise invalid("OUT", "a new or empty folder", str(out), hint) from error
    sync_folder(out.parent)
    return out


def describe_job(command: str, format_version: int) -> dict[str, object]:
    """Return the part of a job (`Staging.begin`) that all commands share: name of the command, and versions."""
    return {"command": command, "version": [__version__, format_version, cv2.__version__, np.__version__]}


def _refuse_taken(out: Path, out_dir: str | os.PathLike[str], own: Path) -> None:
    if out.exists() and not out.is_dir():
        raise invalid("OUT", "a new or empty folder", str(out_dir), "It is a file: name another folder")
    if out.is_dir() and any(path != own for path in out.iterdir()):
        what = "a data set" if (out / "dataset.json").exists() else "other files"
        hint = f"It contains {what}: name another folder, or remove it first"
        raise invalid("OUT", "a new or empty folder", str(out_dir), hint)


def _take_back(stage: Staging, out: Path) -> None:
    """Move files back that a killed run had already moved into a mounted volume."""
    names: list[str] = read_json_file(stage.run_dir / _PLACING) or []
    if not (out / "dataset.json").exists():
        for name in names:
            if (out / name).exists() and not (stage.data_dir / name).exists():
                (out / name).rename(stage.data_dir / name)
        (stage.run_dir / _PLACING).unlink(missing_ok=True)


@contextmanager
def _locked_run(
    folder: Path, out_dir: str | os.PathLike[str], unit: str, say: Callable[[str], None]
) -> Iterator[Staging]:
    _remove_dead_staging(folder)
    handle = hold_folder(folder, str(out_dir))
    keep = False
    try:
        stage = Staging(_new_run(folder), unit, say)
        try:
            yield stage
        except BaseException as error:
            keep = stage.keeps(error)
            if keep and stage.begun:
                say(f"kept {_counted(stage.count(), f'finished {unit}')}: the same command resumes from there")
            raise
    finally:
        _release(folder, handle, keep)


def _hidden_name(out: Path) -> str:
    """Return the name of the staging folder of `out`, within the 255 bytes of a name on most file systems."""
    name = os.fsencode(out.name)
    if len(name) > _MOST_NAME_BYTES:
        return f".{os.fsdecode(name[:_MOST_NAME_BYTES])}-{blake2b(name, digest_size=6).hexdigest()}.partial"
    return f".{out.name}.partial"


def _remove_dead_staging(own: Path) -> None:
    """Remove staging folders beside `own` that killed runs left without a finished piece."""
    for folder in own.parent.glob(".*.partial"):
        if folder == own or not folder.is_dir() or not all(_STAGED.fullmatch(name) for name in os.listdir(folder)):
            continue
        with suppress(BusyError, OSError):
            handle = hold_folder(folder, str(folder))
            useful = (*folder.glob("run-*/saved/*.saved"), *folder.glob(f"run-*/{_PLACING}"))
            _release(folder, handle, keep=bool(useful))


def _new_run(folder: Path) -> Path:
    """Return the folder of this run with the pieces that the last run saved, without its unfinished files."""
    run_dir = folder / f"run-{os.urandom(4).hex()}"
    for number, path in enumerate(sorted(folder.glob("run-*"))):
        if number == 0:
            path.rename(run_dir)
        else:
            shutil.rmtree(path, ignore_errors=True)
    for name in ("data", "saved"):
        (run_dir / name).mkdir(parents=True, exist_ok=True)
    for path in (run_dir / "saved").iterdir():
        if path.suffix != ".saved":
            path.unlink()
    return run_dir


def _empty(run_dir: Path) -> None:
    shutil.rmtree(run_dir)
    for name in ("data", "saved"):
        (run_dir / name).mkdir(parents=True)


def _release(folder: Path, handle: FileLock | None, keep: bool) -> None:
    if not keep:
        for path in folder.glob("run-*"):
            shutil.rmtree(path / "saved", ignore_errors=True)  # first: without placing.json they would be kept
            shutil.rmtree(path, ignore_errors=True)
    release_folder(folder, handle, remove=not keep)


def _counted(num: int, unit: str) -> str:
    return f"{num:,} {unit}{'' if num == 1 else 's'}"
