"""Progress of a whole run on a terminal: one bar for training, validation and the final evaluation."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.trainer.states import TrainerFn

from fastcell.models.lightning_module import CellModule
from fastcell.system.progress_line import Progress, duration, format_rate, open_bar, text_columns
from fastcell.training.evaluate import final_subset, num_labelled
from fastcell.training.progress_bar import readings
from fastcell.training.run_plan import RunClock, plan_run

_DRAW_EVERY_S = 0.1
_OPTIONAL = ("rate", "epoch", "score")  # parts that are omitted on a narrow terminal, in this order


class RunBar(pl.Callback):
    """Show on rank 0 the progress of the whole run, images/s, the latest score and the time left (see `RunClock`).

    In commands other than fit, the bar shows the cells done, their rate and the time left.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._clock: RunClock | None = None
        self._progress: Progress | None = None
        self._timer: Timer | None = None
        self._score = ""
        self._start_s = self._drawn_s = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._timer = next((one for one in trainer.callbacks if isinstance(one, Timer)), None)  # type: ignore[attr-defined]

    # -- training

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._bar = open_bar(None, sys.stderr, "starting: loops are compiled, caches are filled")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module, CellModule):
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        valid = data.view("valid")
        final_cells = 0 if trainer.fast_dev_run else num_labelled(data, final_subset(data))  # type: ignore[attr-defined]
        plan = plan_run(trainer, pl_module, 0 if valid is None else len(valid), final_cells)
        self._close()
        self._start_s = time.monotonic()
        self._clock = RunClock(plan, trainer.global_step, self._start_s)
        self._bar = open_bar(plan.num_cells, sys.stderr, f"step {trainer.global_step:,}", self._clock.cells_done)
        self._draw(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._clock is None:
            return
        now = time.monotonic()
        self._clock.finish_batch(trainer.global_step, now)
        if now - self._drawn_s >= _DRAW_EVERY_S:
            self._read(trainer, pl_module)
            self._draw(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._clock is not None and self._clock.plan.final_cells == 0:
            self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    # -- evaluation, within a run or alone

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_evaluation(trainer, "valid", trainer.num_val_batches)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_evaluation(trainer, "test", trainer.num_test_batches)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_evaluation(trainer, "predict", trainer.num_predict_batches)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._advance_evaluation(trainer, batch, batch_idx, trainer.num_val_batches)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._advance_evaluation(trainer, batch, batch_idx, trainer.num_test_batches)

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._advance_evaluation(trainer, batch, batch_idx, trainer.num_predict_batches)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            self._end()
        elif self._clock is not None and not trainer.sanity_checking:
            self._clock.end_validation(time.monotonic())
            self._read(trainer, pl_module)
            self._draw(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()

    def _start_evaluation(self, trainer: pl.Trainer, subset: str, num_batches: Any) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        if self._clock is not None:
            self._clock.start_evaluation(time.monotonic(), final=trainer.state.fn != TrainerFn.FITTING)
            self._draw(trainer)
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        num = min(len(data.view(subset)), int(_total(num_batches)) * data.eval_batch_size * trainer.world_size)
        self._progress = Progress(num, "cells", warmup=3)

    def _advance_evaluation(self, trainer: pl.Trainer, batch: Any, batch_idx: int, num_batches: Any) -> None:
        if self._progress is not None:
            cells = len(batch.images) * trainer.world_size  # padding included
            self._progress.advance(min(cells, self._progress.total - self._progress.done))
        elif self._clock is not None and not trainer.sanity_checking:
            now = time.monotonic()
            self._clock.advance_evaluation((batch_idx + 1) / max(_total(num_batches), 1), now)
            if now - self._drawn_s >= _DRAW_EVERY_S:
                self._draw(trainer)

    # -- the line

    def _read(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = readings(trainer, pl_module)
        name = next((name for name in ("valid accuracy", "loss") if name in values), None)
        self._score = "" if name is None else f"{name} {values[name]}"

    def _draw(self, trainer: pl.Trainer) -> None:
        assert self._clock is not None
        self._drawn_s = time.monotonic()
        self._bar.set_description_str(self._text(trainer, text_columns(self._bar)), refresh=False)
        total = self._bar.total
        self._bar.n = self._clock.cells_done if total is None else min(self._clock.cells_done, total)
        self._bar.refresh()

    def _text(self, trainer: pl.Trainer, columns: int) -> str:
        assert self._clock is not None
        clock, plan = self._clock, self._clock.plan
        rate, left_s = clock.steps_per_s(self._drawn_s), clock.left_s(self._drawn_s)
        if self._timer is not None and self._timer.time_remaining() is not None:
            ends_s = max(float(self._timer.time_remaining() or 0), 0.0)
            left_s = ends_s if left_s is None else min(left_s, ends_s)
        epochs = "" if plan.num_epochs is None else f"/{plan.num_epochs:,}"
        steps = "" if plan.num_epochs is None else f"/{int(plan.num_steps):,}"
        parts = {
            "step": f"step {clock.step:,}{steps}",
            "epoch": "final evaluation" if clock.is_final else f"epoch {trainer.current_epoch + 1:,}{epochs}",
            "rate": "" if rate is None or clock.is_final else f"{format_rate(rate * plan.cells_per_step)} images/s",
            "score": self._score,
            "left": "" if left_s is None else f"{duration(left_s)} left",
        }
        for name in (*_OPTIONAL, None):
            text = ", ".join(part for part in parts.values() if part)
            if len(text) <= columns or name is None:
                break
            parts[name] = ""
        return text

    def _end(self) -> None:
        """Complete the bar and leave it on the screen."""
        if self._bar is not None and self._clock is not None:
            if self._bar.total is not None:
                self._bar.n = self._bar.total
            took = duration(time.monotonic() - self._start_s)
            self._bar.set_description_str(f"step {self._clock.step:,}, {took}", refresh=False)
            self._bar.refresh()
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.leave = self._clock is not None  # the line of the start is removed
            self._bar.close()
        if self._progress is not None:
            self._progress.close()
        self._bar = self._clock = self._progress = None


def _total(num_batches: Any) -> float:
    """Return the number of batches of an evaluation, from Lightning's numbers for each loader."""
    return sum(num_batches) if isinstance(num_batches, list) else num_batches
