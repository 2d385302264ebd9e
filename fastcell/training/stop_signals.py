"""Handle SIGTERM and Ctrl-C: stop after the current training step, on all ranks at once, and report how a run ended."""

from __future__ import annotations

import errno
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from fastcell.errors import FastcellError, StoppedError
from fastcell.system.lightning_internals import replace_stop_check, stop_after_step

if TYPE_CHECKING:
    from fastcell.training.rank_watch import RankWatch
    from fastcell.training.resume import ResumePoints


LOOK_EVERY = 20
"""Number of steps between two checks of clock or signals if several processes must agree."""


class StopSignals:
    """Turn SIGTERM and Ctrl-C into a stop after the current step. A second signal stops at once.

    Attributes:
        stopped_by: the signal that asked the run to stop, or None.
    """

    def __init__(self) -> None:
        self.stopped_by: signal.Signals | None = None
        self._handlers: dict[int, Any] = {}

    def take_over(self, trainer: pl.Trainer) -> None:
        """Install the handlers if called in the main thread. With several ranks, compare signals before each step."""
        if threading.current_thread() is threading.main_thread():
            # Replaces Lightning's handler, which communicates with the other processes inside the signal handler.
            self._handlers = {
                number: signal.signal(number, lambda number, frame: self._ask_to_stop(trainer, number, frame))
                for number in (signal.SIGTERM, signal.SIGINT)
            }
        if trainer.world_size > 1:  # Lightning asks only rank 0 before each step; this asks all ranks
            replace_stop_check(trainer, lambda: self._agree(trainer))

    def give_back(self) -> None:
        """Restore the handlers that were installed before `take_over`."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _ask_to_stop(self, trainer: pl.Trainer, number: int, frame: FrameType | None) -> None:
        if self.stopped_by is not None:
            raise KeyboardInterrupt
        self.stopped_by = signal.Signals(number)
        if trainer.world_size == 1:
            stop_after_step(trainer)  # both loops end after their current step

    def _agree(self, trainer: pl.Trainer) -> None:
        """Stop all ranks between two steps if one of them was asked to stop."""
        device = trainer.strategy.root_device
        if device.type == "cuda" and trainer.global_step % LOOK_EVERY:  # reading the result waits for the device
            return
        number = torch.tensor([int(self.stopped_by or 0)], device=device)
        torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
        if int(number):
            self.stopped_by = signal.Signals(int(number))
            raise SIGTERMException


@contextmanager
def told_how_it_ended(
    trainer: pl.Trainer,
    ranks: RankWatch,
    points: ResumePoints | None = None,
    folder: Path | None = None,
    *,
    resumed: bool = False,
    repeatable: bool = False,
) -> Iterator[None]:
    """Convert the ways in which a run can end early into errors with a hint.

    A run that fails before its first checkpoint leaves no folder.

    Args:
        trainer: trainer of the run.
        ranks: callback of the trainer that watches the other ranks.
        points: callback of the trainer that writes resume points, in training.
        folder: the run folder, on rank 0.
        resumed: the folder existed before the run.
        repeatable: the same command continues from where it was stopped.

    Raises:
        StoppedError: a signal stopped the run.
        FastcellError: another rank died, or the disk is full.
        KeyboardInterrupt: Ctrl-C was pressed and not handled as a stop.
    """
    try:
        yield
    except SIGTERMException:
        number = (points.stopped_by if points is not None else None) or signal.SIGTERM
        raise _stopped(trainer, number, folder, repeatable) from None
    except OSError as error:
        _explain_full_disk(error, folder)
        raise
    except RuntimeError as error:
        # raised by a collective operation whose partner died
        died = ranks.who_died() if trainer.world_size > 1 else None
        if died is None:
            raise
        raise FastcellError(f"{died}; this run ends, and can be resumed.") from error
    except SystemExit:
        if trainer.interrupted:  # Lightning converts Ctrl-C to exit status 1
            raise KeyboardInterrupt from None
        raise
    finally:
        if folder is not None and not resumed and not any(folder.glob("*.ckpt")):
            shutil.rmtree(folder)


def _explain_full_disk(error: OSError, folder: Path | None) -> None:
    """If `error` reports a full disk and there is a checkpoint, raise an error that tells how to resume the run."""
    full, too_large = error.errno in (errno.ENOSPC, errno.EDQUOT), error.errno == errno.EFBIG
    if folder is None or not any(folder.glob("*.ckpt")):
        return
    if full or too_large:
        what = "no space left on the disk. Free some" if full else "ulimit -f allows no larger files. Allow more"
        raise FastcellError(
            f"{str(folder)!r} cannot be written: {what}, then go on with `fastcell fit --resume {folder}`."
        ) from error


def _stopped(trainer: pl.Trainer, number: int, folder: Path | None, repeatable: bool) -> StoppedError:
    name = signal.Signals(number).name
    if repeatable:
        return StoppedError(f"stopped by {name}. The same command resumes from there.", number)
    if folder is None or not any(folder.glob("*.ckpt")):
        return StoppedError(f"stopped by {name}.", number)
    step = trainer.global_step
    return StoppedError(f"stopped by {name} after step {step:,}. Resume with `fastcell fit --resume {folder}`.", number)
