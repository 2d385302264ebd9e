"""All uses of undocumented parts of Lightning in this package.

A test for each use fails if Lightning renames the attribute or stops using it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from pytorch_lightning.core.optimizer import LightningOptimizer


def stop_after_step(trainer: pl.Trainer) -> None:
    """Make the training loops of a single-process run exit with SIGTERMException at the end of the current step."""
    trainer._signal_connector.received_sigterm = True


def replace_stop_check(trainer: pl.Trainer, check: Callable[[], None]) -> None:
    """Make every rank call `check` before each training step, instead of Lightning's broadcast from rank 0."""
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = check  # type: ignore[method-assign]


def batches_begun(trainer: pl.Trainer) -> int:
    """Return the number of batches started in the current epoch, including those before the run was resumed."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def count_optimizer_step(optimizer: LightningOptimizer) -> None:
    """Count a step of manual optimization that was made without a call of `LightningOptimizer.step`."""
    optimizer._on_before_step()
    optimizer._on_after_step()


def rank_processes(trainer: pl.Trainer) -> list[Any]:
    """Return the processes (`subprocess.Popen`) of the other ranks that this process has started."""
    return list(getattr(trainer.strategy.launcher, "procs", []))


def has_trainer(module: pl.LightningModule) -> bool:
    """Return whether a module is attached to a trainer; `module.trainer` raises an error if it is not."""
    return module._trainer is not None


def detach(module: pl.LightningModule) -> None:
    """Remove a module's reference to its trainer, which would keep the loaders and all their cells in memory."""
    module.trainer = None  # type: ignore[assignment]


@contextmanager
def attached(trainer: pl.Trainer, callback: pl.Callback) -> Iterator[None]:
    """Make `trainer` also call `callback` inside this context."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(callback)
    try:
        yield
    finally:
        callbacks.remove(callback)
