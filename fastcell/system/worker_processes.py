"""Tasks spread over joblib's workers: results in the order of the tasks, and workers that end with an interrupt."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import joblib
from joblib.parallel import get_active_backend

from fastcell.errors import invalid
from fastcell.system.resources import num_cpus

logger = logging.getLogger(__name__)

_SHARED_MEMORY = "/dev/shm"
_SEMAPHORE_BYTES = 1 << 20  # far more than the semaphores of the workers take

Task = TypeVar("Task")
Result = TypeVar("Result")


def check_jobs(jobs: int | None) -> None:
    """Raises ArgumentError where `jobs` is 0."""
    if jobs == 0:
        raise invalid("--jobs", "1 or more, or -1 for all CPUs", jobs, "Leave it out for one for each CPU")


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int | None, few: bool = False
) -> Generator[Result, None, None]:
    """Yield `function` of every task, in the order of `tasks`, each as soon as it is there.

    Args:
        function: of the top level of a module; tasks and results can be pickled.
        tasks: what to do.
        jobs: worker processes; None: those of the surrounding `joblib.parallel_config`, else one for each CPU.
        few: so little to do that starting workers would take longer; `jobs` None is then 1, unless the surrounding
            `joblib.parallel_config` says otherwise.

    Raises:
        ArgumentError: `jobs` is 0.
        concurrent.futures.BrokenExecutor: a worker was killed.
    """
    check_jobs(jobs)
    backend, context_jobs = get_active_backend()
    if jobs is None and context_jobs is None:
        jobs = 1 if few else num_cpus()
    if jobs not in (1, None) and not _has_shared_memory():
        logger.warning("%s is full or cannot be written: one process does all, without workers", _SHARED_MEMORY)
        jobs = 1
    streams = backend.supports_return_generator
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator" if streams else "list")
    done: Any = parallel(joblib.delayed(function)(task) for task in tasks)
    try:
        yield from done
    finally:
        if streams:
            done.close()


def _has_shared_memory() -> bool:
    """Whether there is room for semaphores, which worker processes need; True where a system keeps them elsewhere."""
    try:
        state = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return True
    return state.f_bavail * state.f_frsize >= _SEMAPHORE_BYTES and os.access(_SHARED_MEMORY, os.W_OK)
