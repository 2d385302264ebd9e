"""Engines that run the tasks of a command in processes of this machine or of others: joblib's loky, and Dask."""

from __future__ import annotations

import gc
import os
import re
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import joblib

from fastcell import __version__
from fastcell.errors import ArgumentError, FastcellError, invalid
from fastcell.system.optional_packages import require
from fastcell.system.worker_processes import check_jobs

EngineName = Literal["loky", "dask"]

_TIMEOUT_S = 30
_PROBE = ".fastcell-probe-"


@contextmanager
def use_engine(
    backend: EngineName | None,
    scheduler: str | None,
    jobs: int | None,
    option: str = "--backend",
    reads: Sequence[str | os.PathLike[str]] = (),
    writes: str | os.PathLike[str] | None = None,
) -> Iterator[int | None]:
    """Run tasks of `fastcell.system.worker_processes.run_tasks` on an engine inside the block.

    Args:
        backend: ``loky`` for processes of this machine, ``dask`` for the workers of a Dask cluster; None for the way of
            the command.
        scheduler: address of a Dask scheduler; None starts workers on this machine.
        jobs: number of tasks at a time; None for all workers.
        option: the option that names the engine, for messages.
        reads: files and folders of this machine that all workers of a scheduler must see; addresses are left out.
        writes: folder of this machine that the workers write into.

    Yields:
        The number of jobs to give to the command: None if the engine knows it.

    Raises:
        ArgumentError: a scheduler is given without ``dask``, it cannot be reached, or its workers have several threads,
            another version of fastcell, or do not see one of the files and folders.
        FastcellError: the package distributed is not installed.
    """
    check_jobs(jobs)
    if scheduler is not None and backend != "dask":
        raise invalid("--scheduler", f"given with {option} dask", scheduler, f"Add {option} dask, or leave it out")
    if backend is None:
        yield jobs
    elif backend == "loky":
        with joblib.parallel_config("loky", n_jobs=-1 if jobs is None else jobs):
            yield None
    else:
        num = -1 if jobs is None else jobs
        with _dask_client(scheduler, jobs) as client, joblib.parallel_config("dask", n_jobs=num, client=client):
            if scheduler is not None:
                _check_versions(client, scheduler)
                with _probe(writes) as probe:
                    _check_places(client, scheduler, [*map(os.path.abspath, reads), *probe])
            yield None


@contextmanager
def _dask_client(scheduler: str | None, jobs: int | None) -> Iterator[Any]:
    distributed = require("distributed", "dask")
    if scheduler is None:
        workers = None if jobs in (None, -1) else jobs
        options = {"threads_per_worker": 1, "dashboard_address": None}
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,  # the default folder would stay
            distributed.LocalCluster(n_workers=workers, local_directory=scratch, **options) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    client, reason = None, ""
    try:
        _await_answer(scheduler)
        client = distributed.Client(scheduler, timeout=_TIMEOUT_S)
    except (OSError, ValueError, TypeError, MemoryError, OverflowError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    if client is None:
        gc.collect()  # the client that failed: collected while another one starts, it would wait for its lock for ever
        hint = "Start one: dask scheduler"
        raise ArgumentError(f"--scheduler must be a Dask scheduler, got {scheduler!r} ({reason}). {hint}.")
    with client:
        try:
            client.wait_for_workers(1, timeout=_TIMEOUT_S)
        except TimeoutError:
            hint = f"Start some: dask worker {scheduler} --nthreads 1"
            raise FastcellError(f"the scheduler {scheduler} has no worker. {hint}.") from None
        threads = client.nthreads()
        if max(threads.values()) > 1:
            rule = "one whose workers have one thread each"
            raise invalid("--scheduler", rule, scheduler, "Start them with dask worker --nthreads 1")
        yield client


def _await_answer(scheduler: str) -> None:
    """Wait for the greeting of a scheduler at a TCP port. A client of Dask waits for it without end.

    Raises:
        OSError: no byte came within 30 s.
    """
    found = re.fullmatch(r"(?:tcp://)?\[?([^/\]]+)\]?:(\d{1,5})", scheduler)
    if found is not None:
        with socket.create_connection((found[1], int(found[2])), timeout=_TIMEOUT_S) as probe:
            if not probe.recv(1):
                raise ConnectionError("it closes the connection")


def _check_versions(client: Any, scheduler: str) -> None:
    """Check that all workers have this version of fastcell.

    Raises:
        ArgumentError: one of them has not.
    """
    asked = "__import__('fastcell').__version__"  # a function of fastcell could not be sent to a worker without it
    for worker, version in client.run(eval, asked, on_error="return").items():
        if version != __version__:
            got = f"{scheduler} with {'none' if isinstance(version, Exception) else version} on {worker}"
            hint = "Install the same version on all machines"
            raise invalid("--scheduler", f"one whose workers have fastcell {__version__}", got, hint)


@contextmanager
def _probe(folder: str | os.PathLike[str] | None) -> Iterator[list[str]]:
    """Yield the path of an empty file in a folder, which is removed at the end; none if it cannot be made."""
    paths: list[str] = []
    if folder is not None:
        with suppress(OSError):
            handle, path = tempfile.mkstemp(prefix=_PROBE, dir=folder)
            os.close(handle)
            paths.append(path)
    try:
        yield paths
    finally:
        for path in paths:
            Path(path).unlink(missing_ok=True)


def _check_places(client: Any, scheduler: str, places: Sequence[str]) -> None:
    """Check that all workers see files and folders; what this process does not see is left to the command.

    Raises:
        ArgumentError: one of them does not, or sees other content, as of a folder where no disk is mounted.
    """
    for place in places:
        here = _content_of(place)
        others = client.run(_content_of, place) if here is not None else {}
        blind = [worker for worker, there in others.items() if there != here]
        if blind:
            shown = Path(place).parent if Path(place).name.startswith(_PROBE) else place
            hint = "Use a disk that all machines mount under this path, or an address"
            got = f"{scheduler}: {blind[0]} sees {'none' if others[blind[0]] is None else 'another'}"
            raise invalid("--scheduler", f"one whose workers see {shown}", got, hint)


def _content_of(place: str) -> int | str | None:
    """Return what tells a file or folder from another: the size, the names in it; None if it is not there.

    Of a data set, the size of ``dataset.json``: other files in its folder may be new, and not seen by all machines yet.
    """
    path = Path(place)
    try:
        if not path.is_dir():
            return path.stat().st_size
        described = path / "dataset.json"
        if described.exists():
            return described.stat().st_size
        return blake2b("\0".join(sorted(os.listdir(path))).encode(errors="surrogateescape")).hexdigest()
    except OSError:
        return None
