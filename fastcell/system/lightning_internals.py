"""Every place where this package reaches into Lightning behind its documented interface.

Each has a test that fails where Lightning renames or no longer asks for what is used here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytorch_lightning as pl


def stop_after_step(trainer: pl.Trainer) -> None:
    """Have the loops of a run on one process leave with SIGTERMException at the end of the step under way."""
    trainer._signal_connector.received_sigterm = True


def replace_stop_check(trainer: pl.Trainer, check: Callable[[], None]) -> None:
    """Have every rank call `check` before each training step, in the place of Lightning's broadcast from rank 0."""
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = check  # type: ignore[method-assign]


def batches_begun(trainer: pl.Trainer) -> int:
    """Return how many batches of the epoch training has begun, those before the run was resumed included."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def rank_processes(trainer: pl.Trainer) -> list[Any]:
    """Return the processes (`subprocess.Popen`) of the further ranks that this process has started."""
    return list(getattr(trainer.strategy.launcher, "procs", []))


def has_trainer(module: pl.LightningModule) -> bool:
    """Return whether a module is attached to a trainer; `module.trainer` raises where it is not."""
    return module._trainer is not None


def detach(module: pl.LightningModule) -> None:
    """Have a module forget its trainer, which keeps the loaders and all their cells alive."""
    module.trainer = None  # type: ignore[assignment]


@contextmanager
def attached(trainer: pl.Trainer, callback: pl.Callback) -> Iterator[None]:
    """Have `trainer` call `callback` too inside the block."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(callback)
    try:
        yield
    finally:
        callbacks.remove(callback)
