"""Run tasks in joblib's worker processes: results in the order of the tasks, and workers that end with their parent."""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import joblib
from joblib.parallel import get_active_backend

from fastcell.errors import invalid
from fastcell.system.resources import num_cpus

logger = logging.getLogger(__name__)

_SHARED_MEMORY = "/dev/shm"
_SEMAPHORE_BYTES = 1 << 20  # far more than the semaphores of the workers need
_ADDRESS_SPACE_BYTES = 1 << 30  # stacks and queues of the threads that serve the workers, and what a task needs
_WATCH_EVERY_S = 1.0
MOST_JOBS = 10_000
_MOST_LOST = 2

Task = TypeVar("Task")
Result = TypeVar("Result")


def check_jobs(jobs: int | None) -> None:
    """Check a number of worker processes or threads.

    Raises:
        ArgumentError: `jobs` is 0, below -1 or above `MOST_JOBS`.
    """
    if jobs is not None and not (jobs == -1 or 1 <= jobs <= MOST_JOBS):
        rule = f"from 1 to {MOST_JOBS:,}, or -1 for all CPUs"
        raise invalid("--jobs", rule, jobs, "Leave it out for one for each CPU")


def num_threads(jobs: int | None) -> int:
    """Return the number of threads for `jobs`: None and -1 mean one per CPU.

    Raises:
        ArgumentError: see `check_jobs`.
    """
    check_jobs(jobs)
    return num_cpus() if jobs is None or jobs < 0 else jobs


def end_with_parent(parent: int, message: str = "", unless: threading.Event | None = None) -> None:
    """End this process 1 to 2 s after its parent dies for any reason; a thread checks once a second.

    The kernel's own signal (`PR_SET_PDEATHSIG`) is no substitute: it is sent when the *thread* ends that started the
    process.

    Args:
        parent: process id of the parent. It may have died before the call.
        message: line for stderr in that case; empty for none.
        unless: event; once it is set, the process is left to end by itself.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_EVERY_S)
        if unless is not None and unless.is_set():
            return
        if message:
            os.write(2, f"{message}\n".encode())
        os._exit(1)

    threading.Thread(target=watch, name="fastcell-parent", daemon=True).start()


def watched_workers() -> dict[str, Any]:
    """Return the arguments of `joblib.parallel_config("loky", ...)` that make workers end with this process.

    They name the working folder, because joblib uses the workers of an earlier call again if its arguments are equal:
    such workers would look for the relative paths of a task in the folder in which they started.
    """
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:  # it was removed; tasks with absolute paths work
        folder = ""
    return {"initializer": _watch_parent, "initargs": (os.getpid(), folder)}


def _watch_parent(parent: int, folder: str) -> None:
    end_with_parent(parent)


def num_workers(jobs: int | None, few: bool = False) -> int:
    """Return the number of tasks that `run_tasks` has in work at the same time; see there for the arguments."""
    if jobs is None:
        jobs = get_active_backend()[1]
    if jobs is None:
        return 1 if few else num_cpus()
    return max(jobs if jobs > 0 else num_cpus() + 1 + jobs, 1)


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int | None, few: bool = False
) -> Generator[Result, None, None]:
    """Yield the result of `function` for every task, in the order of `tasks`, each as soon as it is available.

    Args:
        function: defined at the top level of a module. Tasks and results must be picklable.
        tasks: arguments of `function`.
        jobs: number of worker processes; None: the number of the surrounding `joblib.parallel_config`, otherwise one
            for each CPU.
        few: the tasks are so small that starting workers would take longer. `jobs` None then means 1, unless the
            surrounding `joblib.parallel_config` sets a number.

    Tasks of a worker that is killed are done again by others, up to 2 times without a result in between.

    Raises:
        ArgumentError: `jobs` is 0.
        concurrent.futures.BrokenExecutor: workers are killed again and again.
    """
    num_done, lost = 0, 0
    while True:
        try:
            for result in _run_once(function, tasks[num_done:], jobs, few):
                num_done, lost = num_done + 1, 0
                yield result
        except BrokenExecutor:
            lost += 1
            if lost > _MOST_LOST:
                raise
            logger.warning("a worker process was killed: its tasks are done again")
        else:
            return


def _run_once(
    function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int | None, few: bool
) -> Generator[Result, None, None]:
    check_jobs(jobs)
    backend, context_jobs = get_active_backend()
    if jobs is None and context_jobs is None:
        jobs = num_workers(jobs, few)
    if jobs not in (1, None) and not _has_shared_memory():
        logger.warning("%s is full or cannot be written: one process does all, without workers", _SHARED_MEMORY)
        jobs = 1
    if jobs not in (1, None) and not _has_address_space():
        logger.warning("the limit of memory (ulimit -v) leaves no room for workers: one process does all")
        jobs = 1
    streams = backend.supports_return_generator
    num = context_jobs if jobs is None else jobs
    is_loky = type(backend).__name__ == "LokyBackend"
    threads = backend.inner_max_num_threads
    config = joblib.parallel_config("loky", inner_max_num_threads=threads, **watched_workers()) if is_loky else None
    with config or nullcontext():
        parallel = joblib.Parallel(n_jobs=num, return_as="generator" if streams else "list")
    done: Any = parallel(joblib.delayed(function)(task) for task in tasks)
    try:
        yield from done
    finally:
        if streams:
            done.close()


def _has_address_space() -> bool:
    """Return whether threads can start that wait for workers; if they cannot, joblib waits without end."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return True
    try:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return True
    return limit - size >= _ADDRESS_SPACE_BYTES


def _has_shared_memory() -> bool:
    """Return whether worker processes have room for their semaphores; True if the system keeps these elsewhere."""
    try:
        state = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return True
    return state.f_bavail * state.f_frsize >= _SEMAPHORE_BYTES and os.access(_SHARED_MEMORY, os.W_OK)
