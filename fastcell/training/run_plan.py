"""The work of a whole training run in steps, validation passes and cells, and the time left."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytorch_lightning as pl

from fastcell.models.lightning_module import CellModule
from fastcell.system.progress_line import Rate

WARMUP_BATCHES = 10
RATE_SPAN_S = 60.0


@dataclass(frozen=True)
class RunPlan:
    """Steps, validation passes and the evaluation at the end of a run.

    Attributes:
        num_steps: optimizer steps of the run; infinite if neither steps nor epochs limit it.
        steps_per_epoch: optimizer steps of an epoch.
        steps_per_batch: optimizer steps of one batch of the trainer: above 1 for `steps_per_call`, below 1 if
            gradients are accumulated.
        batches_per_epoch: batches of the trainer in an epoch.
        batches_per_validation: batches between two validation passes.
        epochs_per_validation: validation takes place in every such epoch; None if batches are counted over the epochs.
        cells_per_step: training cells of an optimizer step, over all ranks.
        validation_cells: cells of a validation pass; 0 without validation.
        final_cells: cells of the evaluation after training; 0 without evaluation.
    """

    num_steps: float
    steps_per_epoch: int
    steps_per_batch: float
    batches_per_epoch: int
    batches_per_validation: float
    epochs_per_validation: int | None
    cells_per_step: int
    validation_cells: int
    final_cells: int

    @property
    def num_epochs(self) -> int | None:
        """Number of epochs of the run, including an incomplete last one; None if the run has no end."""
        return None if math.isinf(self.num_steps) else math.ceil(self.num_steps / self.steps_per_epoch)

    @property
    def num_cells(self) -> float | None:
        """Cells of training and all evaluations; None if the run has no end."""
        if math.isinf(self.num_steps):
            return None
        evaluated = self.num_validations(int(self.num_steps)) * self.validation_cells + self.final_cells
        return self.num_steps * self.cells_per_step + evaluated

    def num_validations(self, step: int) -> int:
        """Return the number of validation passes up to and including the one after a step."""
        if self.validation_cells == 0:
            return 0
        epochs, rest = divmod(step, self.steps_per_epoch)
        batches = math.ceil(rest / self.steps_per_batch)
        if self.epochs_per_validation is None:
            return int((epochs * self.batches_per_epoch + batches) // self.batches_per_validation)
        per_epoch = self._in_epoch(self.batches_per_epoch)
        started = self._in_epoch(batches) if (epochs + 1) % self.epochs_per_validation == 0 else 0
        return epochs // self.epochs_per_validation * per_epoch + started

    def _in_epoch(self, batches: int) -> int:
        if math.isinf(self.batches_per_validation):  # after the last batch
            return int(batches == self.batches_per_epoch)
        return int(batches // self.batches_per_validation)


def plan_run(trainer: pl.Trainer, model: CellModule, validation_cells: int, final_cells: int) -> RunPlan:
    """Return the plan of a run.

    Args:
        trainer: trainer that has just started to fit `model`.
        model: the model in training.
        validation_cells: labelled cells of the validation subset.
        final_cells: cells of the evaluation after training.
    """
    every = trainer.val_check_batch
    validates = trainer.enable_validation and every is not None  # None: by the clock, which cannot be planned
    return RunPlan(
        num_steps=model.num_steps(),
        steps_per_epoch=model.steps_per_epoch(),
        steps_per_batch=model.hparams["steps_per_call"] / trainer.accumulate_grad_batches,
        batches_per_epoch=int(trainer.num_training_batches),
        batches_per_validation=math.inf if every is None else every,
        epochs_per_validation=trainer.check_val_every_n_epoch,
        cells_per_step=trainer.datamodule.batch_size * trainer.accumulate_grad_batches,  # type: ignore[attr-defined]
        validation_cells=validation_cells if validates else 0,
        final_cells=final_cells,
    )


class RunClock:
    """Progress of a run, and the time left.

    The first 10 training batches do not count for the time left: they compile, choose algorithms and fill caches. The
    time left is given once the following batches have lasted as long as these 10 (at least 2 s, at most 30 s). It is
    computed from the steps of the last 60 s, and includes the remaining validation passes and the final evaluation at
    the rate of the latest evaluation. Before the first evaluation, an evaluated cell is assumed to take as long as a
    training cell, which is an upper bound. The rate of a resumed run ignores the steps of earlier processes.

    Args:
        plan: the work of the run.
        step: optimizer steps taken already; above 0 in a resumed run.
        now_s: present time [s], from the same clock as all other times.
    """

    def __init__(self, plan: RunPlan, step: int, now_s: float) -> None:
        self.plan, self.step = plan, step
        self.is_final = False
        self._rate = Rate(now_s, WARMUP_BATCHES, RATE_SPAN_S)
        self._validations = plan.num_validations(step)
        self._share = 0.0  # done of the present evaluation
        self._pass_s: float | None = None  # start of the present evaluation
        self._evaluated_s = 0.0  # duration of all evaluations, which the rate of training leaves out
        self._evaluation_rate: float | None = None  # cells/s

    def finish_batch(self, step: int, now_s: float) -> None:
        """Count a training batch, after which `step` optimizer steps are done."""
        self._rate.add(now_s - self._evaluated_s, step - self.step)
        self.step = step

    def start_evaluation(self, now_s: float, final: bool = False) -> None:
        """Start a validation pass, or the final evaluation."""
        self._pass_s, self._share, self.is_final = now_s, 0.0, final

    def advance_evaluation(self, share: float, now_s: float) -> None:
        """Set the finished share of the present evaluation, 0 to 1."""
        assert self._pass_s is not None
        self._share = min(share, 1.0)
        cells = self.plan.final_cells if self.is_final else self.plan.validation_cells
        self._evaluation_rate = self._share * cells / max(now_s - self._pass_s, 1e-9)

    def end_validation(self, now_s: float) -> None:
        """Count a complete validation pass."""
        assert self._pass_s is not None
        self._evaluated_s += now_s - self._pass_s
        self._pass_s, self._share = None, 0.0
        self._validations += 1

    @property
    def cells_done(self) -> float:
        """Cells that training and evaluation have processed."""
        if self.is_final:
            return (self.plan.num_cells or 0.0) - self.plan.final_cells * (1 - self._share)
        evaluated = (self._validations + self._share) * self.plan.validation_cells
        return self.step * self.plan.cells_per_step + evaluated

    def steps_per_s(self, now_s: float) -> float | None:
        """Return the rate of training; None until it is meaningful."""
        return self._rate.per_s(self._training_s(now_s))

    def left_s(self, now_s: float) -> float | None:
        """Return the time left [s]; None until it is meaningful, and for a run without an end."""
        if self.is_final:
            cells = self.plan.final_cells * (1 - self._share)
            return cells / self._evaluation_rate if self._evaluation_rate else None
        rate = self.steps_per_s(now_s)
        if rate is None or math.isinf(self.plan.num_steps):
            return None
        passes = self.plan.num_validations(int(self.plan.num_steps)) - self._validations - self._share
        cells = max(passes, 0.0) * self.plan.validation_cells + self.plan.final_cells
        evaluation_rate = self._evaluation_rate or rate * self.plan.cells_per_step
        return (self.plan.num_steps - self.step) / rate + cells / evaluation_rate

    def _training_s(self, now_s: float) -> float:
        present = 0.0 if self._pass_s is None else now_s - self._pass_s
        return now_s - self._evaluated_s - present
