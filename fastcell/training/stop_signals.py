"""SIGTERM and Ctrl-C: a stop behind the training step that is under way, on all ranks at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from fastcell.system.lightning_internals import replace_stop_check, stop_after_step

LOOK_EVERY = 20
"""Steps between two looks at clock or signals where several processes must agree."""


class StopSignals:
    """Turns SIGTERM and Ctrl-C into a stop after the step that is under way. A second signal stops at once.

    Attributes:
        stopped_by: the signal that asked the run to stop, or None.
    """

    def __init__(self) -> None:
        self.stopped_by: signal.Signals | None = None
        self._handlers: dict[int, Any] = {}

    def take_over(self, trainer: pl.Trainer) -> None:
        """Handle the signals from now on, in the main thread; several ranks look at them before each step."""
        if threading.current_thread() is threading.main_thread():
            # In the place of Lightning's own, which talks to the other processes from inside of the signal.
            self._handlers = {
                number: signal.signal(number, lambda number, frame: self._ask_to_stop(trainer, number, frame))
                for number in (signal.SIGTERM, signal.SIGINT)
            }
        if trainer.world_size > 1:  # Lightning asks rank 0 before each step; so does this, but all ranks
            replace_stop_check(trainer, lambda: self._agree(trainer))

    def give_back(self) -> None:
        """Restore the handlers that were there before `take_over`."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _ask_to_stop(self, trainer: pl.Trainer, number: int, frame: FrameType | None) -> None:
        if self.stopped_by is not None:
            raise KeyboardInterrupt
        self.stopped_by = signal.Signals(number)
        if trainer.world_size == 1:
            stop_after_step(trainer)  # both loops leave at the end of their step

    def _agree(self, trainer: pl.Trainer) -> None:
        """Between two steps: leave on all ranks where one was asked to stop."""
        device = trainer.strategy.root_device
        if device.type == "cuda" and trainer.global_step % LOOK_EVERY:  # reading it waits for the device
            return
        number = torch.tensor([int(self.stopped_by or 0)], device=device)
        torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
        if int(number):
            self.stopped_by = signal.Signals(int(number))
            raise SIGTERMException
