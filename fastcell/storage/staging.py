"""Where a data set is made before it gets its name: a hidden, locked folder that a killed run leaves to the next.

    .OUT.partial/
        lock                 held while a run lives; says which one
        run-1a2b3c4d/        renamed by each run, so that workers of a killed one find their paths gone
            job.json         everything that the bytes of the shards depend on
            data/            becomes OUT
            saved/           what a rerun takes over (`fastcell.storage.saved_pieces`)

The kernel drops the lock with the process, so a killed run blocks nothing. Where the file system knows no locks, a file
`claim` stands for it, which is taken over from a dead process of the same machine.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastcell import __version__
from fastcell.errors import ArgumentError, BusyError, DataError, FastcellError, invalid
from fastcell.storage.whole_files import replace_file

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}
_PLACING = "placing.json"
_held: set[int] = set()


def _silent(line: str) -> None:
    pass


@dataclass
class Staging:
    """The folder of one run.

    Attributes:
        run_dir: of this run alone.
        unit: what is saved, for messages: `shard` or `part`.
        say: takes one line for the user.
        num_saved: pieces that an earlier run has saved for this one; 0 before `begin`.
    """

    run_dir: Path
    unit: str = "shard"
    say: Callable[[str], None] = _silent
    num_saved: int = 0
    begun: bool = False

    @property
    def data_dir(self) -> Path:
        """Where the files of the data set are written; `put_in_place` takes them from there."""
        return self.run_dir / "data"

    @property
    def saved_dir(self) -> Path:
        """Where what is finished is written down for a rerun, see `fastcell.storage.saved_pieces`."""
        return self.run_dir / "saved"

    def begin(self, job: Mapping[str, object]) -> None:
        """Take over what an interrupted run of the same job has saved, or clear away what another job has left.

        Args:
            job: all that the bytes depend on, as JSON can hold it.
        """
        self.begun = True
        given = json.loads(json.dumps(job))
        found = _read_json(self.run_dir / "job.json")
        num = self.count()
        if given == found:
            self.num_saved = num
            for path in self.data_dir.iterdir():
                if not (self.saved_dir / f"{path.name}.saved").exists():  # unfinished, or to be made at the end
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            if num:
                self.say(f"going on from {_counted(num, self.unit)} that an interrupted run has finished")
            return
        if num and found:
            other = ", ".join(sorted(key for key in {*given, *found} if given.get(key) != found.get(key)))
            pieces = _counted(num, f"finished {self.unit}")
            was = "is" if num == 1 else "are"
            self.say(f"an interrupted run with other {other} was here; the {pieces} of it {was} removed")
        for folder in (self.saved_dir, self.data_dir):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        text = json.dumps(given, indent=1)
        replace_file(self.run_dir / "job.json", lambda file: file.write_text(text, encoding="utf-8"))

    def count(self) -> int:
        """How many pieces are saved."""
        return sum(1 for _ in self.saved_dir.glob("*.saved"))

    def keeps(self, error: BaseException) -> bool:
        """Whether what is saved helps the next run: not after arguments that cannot be, or a refusal."""
        if not self.count():
            return False
        if not self.begun or not isinstance(error, FastcellError):
            return True
        return isinstance(error, DataError) and self.num_saved > 0


@contextmanager
def staging(out_dir: str | os.PathLike[str]) -> Iterator[Path]:
    """A hidden folder in which a data set is made; `finish_dataset` gives it its name, a failure removes it.

    Args:
        out_dir: where the data set is to be; must not exist, or be an empty folder.

    Raises:
        ArgumentError: `out_dir` is a file or holds something.
        BusyError: another run is making it.
        OSError: it cannot be written.
    """
    with open_staging(out_dir) as stage:
        stage.begin({})
        yield stage.data_dir


@contextmanager
def open_staging(
    out_dir: str | os.PathLike[str], say: Callable[[str], None] = _silent, unit: str = "shard"
) -> Iterator[Staging]:
    """As `staging`, for a job that goes on where an earlier run was interrupted: see `Staging.begin`.

    Args:
        out_dir: where the data set is to be; must not exist, or be an empty folder.
        say: takes one line for the user.
        unit: what is saved, for messages.

    Raises:
        ArgumentError, BusyError, OSError: as `staging`.
    """
    out = Path(out_dir).resolve()
    # A mounted volume cannot be replaced by a renamed folder, nor one in a folder that we may not write to.
    inside = out.is_dir() and (os.path.ismount(out) or not os.access(out.parent, os.W_OK))
    folder = (out if inside else out.parent) / f".{out.name}.partial"
    if not folder.exists():
        _refuse_taken(out, out_dir, folder)
    with _locked_run(folder, out_dir, unit, say) as stage:
        _take_back(stage, out)
        try:
            _refuse_taken(out, out_dir, folder)
        except ArgumentError:
            if (out / "dataset.json").exists():  # the run was killed after its work was done
                _empty(stage.run_dir)
            raise
        yield stage


@contextmanager
def open_staging_in(folder: Path, say: Callable[[str], None] = _silent) -> Iterator[Staging]:
    """As `open_staging`, for files that are put into a folder that is there and holds other things.

    Raises:
        BusyError: another run does the same.
        OSError: it cannot be written.
    """
    with _locked_run(folder.resolve() / ".index.partial", folder, "part", say) as stage:
        placed = "dataset.json" in (_read_json(stage.run_dir / _PLACING) or [])
        if placed and not (stage.data_dir / "dataset.json").exists():  # the run was killed after its work was done
            _empty(stage.run_dir)
        yield stage


@contextmanager
def open_staging_of(file: Path, say: Callable[[str], None] = _silent) -> Iterator[Staging]:
    """As `open_staging`, for a single file that is put together from parts and written by the caller.

    Raises:
        BusyError: another run makes the same file.
        OSError: it cannot be written.
    """
    file = file.resolve()
    with _locked_run(file.parent / f".{file.name}.partial", file, "part", say) as stage:
        yield stage


def put_in_place(tmp_dir: Path, out: Path) -> Path:
    """Rename the folder, or, inside a mounted volume or among other files, what it holds, with dataset.json last.

    Args:
        tmp_dir: `Staging.data_dir`.
        out: absolute path of the folder that it becomes.

    Raises:
        ArgumentError: something was put there in the meantime.
    """
    _sync_dir(tmp_dir)
    if out in tmp_dir.parents:
        names = sorted(os.listdir(tmp_dir), key=lambda name: (name == "dataset.json", name))
        text = json.dumps(names)
        replace_file(tmp_dir.parent / _PLACING, lambda file: file.write_text(text, encoding="utf-8"))
        for name in names:
            (tmp_dir / name).rename(out / name)
        _sync_dir(out)
    else:
        try:
            tmp_dir.rename(out)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            way_out = "Another run has put something there in the meantime: use that, or name another place"
            raise invalid("OUT", "a new or empty folder", str(out), way_out) from error
    _sync_dir(out.parent)
    return out


def describe_job(command: str, format_version: int) -> dict[str, object]:
    """The part of a job (`Staging.begin`) that is there for every command: its name, and the versions that made it."""
    return {"command": command, "version": [__version__, format_version, cv2.__version__, np.__version__]}


def _refuse_taken(out: Path, out_dir: str | os.PathLike[str], own: Path) -> None:
    if out.exists() and not out.is_dir():
        raise invalid("OUT", "a new or empty folder", str(out_dir), "It is a file: name another place")
    if out.is_dir() and any(path != own for path in out.iterdir()):
        what = "a data set is there" if (out / "dataset.json").exists() else "the folder holds other files"
        raise invalid("OUT", "a new or empty folder", str(out_dir), f"Name another place or remove it first: {what}")


def _take_back(stage: Staging, out: Path) -> None:
    """Files that a killed run had begun to put into a mounted volume."""
    names: list[str] = _read_json(stage.run_dir / _PLACING) or []
    if not (out / "dataset.json").exists():
        for name in names:
            if (out / name).exists() and not (stage.data_dir / name).exists():
                (out / name).rename(stage.data_dir / name)
        (stage.run_dir / _PLACING).unlink(missing_ok=True)


@contextmanager
def _locked_run(
    folder: Path, out_dir: str | os.PathLike[str], unit: str, say: Callable[[str], None]
) -> Iterator[Staging]:
    handle = _lock(folder, str(out_dir))
    keep = False
    try:
        stage = Staging(_new_run(folder), unit, say)
        try:
            yield stage
        except BaseException as error:
            keep = stage.keeps(error)
            if keep and stage.begun:
                say(f"kept {_counted(stage.count(), f'finished {unit}')}: the same command goes on from there")
            raise
    finally:
        _release(folder, handle, keep)


def _new_run(folder: Path) -> Path:
    """The folder of this run, with what the last one has saved, and with no file that it has not finished."""
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


def _release(folder: Path, handle: int, keep: bool) -> None:
    if not keep:
        for path in folder.glob("run-*"):
            shutil.rmtree(path, ignore_errors=True)
    (folder / "claim").unlink(missing_ok=True)
    if not keep:
        (folder / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # the next run is there already
            folder.rmdir()
    _held.discard(handle)
    os.close(handle)


def _lock(folder: Path, out: str) -> int:
    """Hold `folder`, made where missing; a handle that holds it until it is closed.

    Raises:
        BusyError: another run holds it.
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


def _hold(handle: int, folder: Path, out: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _busy(out, _read_json(folder / "lock")) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _claim(folder / "claim", out)


def _claim(path: Path, out: str) -> None:
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            holder = _read_json(path) or {}
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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _sync_dir(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _counted(num: int, unit: str) -> str:
    return f"{num:,} {unit}{'' if num == 1 else 's'}"


def _let_go() -> None:
    """A forked child that outlives us must not hold our lock."""
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
