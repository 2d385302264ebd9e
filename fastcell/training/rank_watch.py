"""End a run of several processes if one of them dies."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytorch_lightning as pl

from fastcell.system.lightning_internals import rank_processes
from fastcell.system.rank_errors import PARENT, last_line, rank_zero_died

_WATCH_EVERY_S = 1.0


class RankWatch(pl.Callback):
    """End rank 0 and all other processes within a second or two if a process that rank 0 started dies.

    After a `RuntimeError` of rank 0, such as a broken connection, the watch ends them only if a process was killed by a
    signal: a process that exits with a status may have the same error as rank 0, which reports it. After any other
    error of rank 0 the watch stops.

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
        """After a broken connection, return which process died and how; None if still unknown after some seconds."""
        parent, is_further = os.environ.get(PARENT), int(os.environ.get("LOCAL_RANK", "0")) > 0
        # Rank 0 waits longer than the others, so that after an error of all ranks they have finished before it ends.
        for _ in range(20 if is_further else 30):
            if is_further and parent is not None and os.getppid() != int(parent):
                rank_zero_died.set()
                return "rank 0 has died"
            for rank, child in enumerate(self._children, 1):
                how = _how_it_ended(child)
                if how is not None:
                    return f"rank {rank} (process {child.pid}) {how}"
            time.sleep(0.1)
        return None


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
    os.write(2, f"{last_line(what)}\n".encode())
    for other in others:
        other.kill()
    os._exit(1)
