"""End a run of several processes if one of them dies."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytorch_lightning as pl

from fastcell.system.lightning_internals import rank_processes
from fastcell.system.worker_processes import end_with_parent

_WATCH_EVERY_S = 1.0
_PARENT = "FASTCELL_PARENT"
_ends_by_itself = threading.Event()
_rank_zero_died = threading.Event()


class RankWatch(pl.Callback):
    """End rank 0 and all other processes within a second or two if a process that rank 0 started dies.

    After a `RuntimeError` of rank 0, as of a broken connection, the watch ends them at a death by a signal alone: a
    process that ends with a status may have the same error as rank 0, which reports it. After another error it ends.

    The other processes watch rank 0 with `watch_parent`. Processes started by a cluster's launcher are left to the
    launcher.
    """

    def __init__(self) -> None:
        self._done, self._failed = threading.Event(), threading.Event()
        self._children: list[Any] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._children = children = rank_processes(trainer)
        self._done.set()
        self._done = done = threading.Event()
        if children:
            watched = (done, self._failed, children)
            threading.Thread(target=_watch_children, args=watched, name="fastcell-ranks", daemon=True).start()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._done.set()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        (self._failed if isinstance(exception, RuntimeError) else self._done).set()

    def who_died(self) -> str | None:
        """Return which process died and how, after a broken connection; None if not known within some seconds."""
        parent, is_further = os.environ.get(_PARENT), int(os.environ.get("LOCAL_RANK", "0")) > 0
        # Rank 0 looks longer: after an error of all ranks, the others have looked before it ends.
        for _ in range(20 if is_further else 30):
            if is_further and parent is not None and os.getppid() != int(parent):
                _rank_zero_died.set()
                return "rank 0 has died"
            for rank, child in enumerate(self._children, 1):
                how = _how_it_ended(child)
                if how is not None:
                    return f"rank {rank} (process {child.pid}) {how}"
            time.sleep(0.1)
        return None


def watch_parent() -> None:
    """Start to watch the parent: a process that is not rank 0 of its machine ends 1 to 2 s after its parent dies.

    Call it at the start of the process, because a process may wait half an hour for rank 0 before it has a trainer. The
    parent may die before the call, so rank 0 passes its process id to the processes that it starts.
    """
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        os.environ[_PARENT] = str(os.getpid())
        return
    parent = int(os.environ.get(_PARENT, os.getppid()))

    end_with_parent(parent, _last_line("rank 0 has died"), _ends_by_itself)


def rank_zero_reports(wait_s: float = 10.0) -> bool:
    """Return whether the process that started this one, rank 0, ends as well, and so reports the error of both.

    An error of all ranks is to be reported once. Rank 0 goes on waiting for this process if only this one has failed.

    Args:
        wait_s: longest time to wait for the end of rank 0.
    """
    parent = os.environ.get(_PARENT)
    if parent is None or int(os.environ.get("LOCAL_RANK", "0")) == 0 or _rank_zero_died.is_set():
        return False
    _ends_by_itself.set()
    end = time.monotonic() + wait_s
    while os.getppid() == int(parent):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _watch_children(done: threading.Event, failed: threading.Event, children: list[Any]) -> None:
    while not done.wait(_WATCH_EVERY_S):
        for rank, child in enumerate(children, 1):
            how = _how_it_ended(child)
            if how is not None and (child.returncode < 0 or not failed.is_set()):
                _leave(f"rank {rank} (process {child.pid}) {how}", [other for other in children if other is not child])


def _how_it_ended(child: Any) -> str | None:
    """Return how a process ended; None if it is alive or ended without an error."""
    status = child.poll()
    if status in (None, 0):
        return None
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"


def _leave(what: str, others: list[Any]) -> None:
    os.write(2, f"{_last_line(what)}\n".encode())
    for other in others:
        other.kill()
    os._exit(1)


def _last_line(what: str) -> str:
    return f"fastcell: error: {what}; this run ends, and can be resumed."
