"""Training steps under Lightning's trainer that are made from indices of cells, several in a call.

The trainer counts, validates, saves and stops as it does with other steps (manual optimization). Inside a step there is
nothing of it: no hook of a callback, no closure and no scaling of gradients. `can_replay` says where that is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer

from fastcell.loading.bank_loader import PlannedLoader
from fastcell.loading.batch import Batch, PlannedSteps
from fastcell.models.replayed_steps import Loss, ReplayedSteps
from fastcell.system.lightning_internals import count_optimizer_step

if TYPE_CHECKING:
    from fastcell.models.lightning_module import CellModule

_HOOKS_IN_STEPS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")
_PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")


def can_replay(model: CellModule) -> bool:
    """Return whether the steps of a model under its trainer may be replays of a CUDA graph.

    This needs one process on one GPU, a precision without scaled gradients, a loss without a teacher, and neither a
    model nor a callback with a hook inside optimizer steps.
    """
    trainer = model.trainer
    return (
        trainer.world_size == 1
        and trainer.strategy.root_device.type == "cuda"
        and str(trainer.precision) in _PRECISIONS
        and model.add_losses is None
        and not any(_looks_into_steps(part) for part in (model, *trainer.callbacks))  # type: ignore[attr-defined]
    )


def _looks_into_steps(part: pl.LightningModule | pl.Callback) -> bool:
    plain = pl.LightningModule if isinstance(part, pl.LightningModule) else pl.Callback
    return any(getattr(type(part), name) is not getattr(plain, name) for name in _HOOKS_IN_STEPS)


class PlannedTraining:
    """The planned steps of one training."""

    def __init__(self) -> None:
        self._steps: ReplayedSteps | None = None

    @property
    def is_captured(self) -> bool:
        """Whether steps are replays of a CUDA graph."""
        return self._steps is not None and self._steps.is_captured

    def run(self, model: CellModule, plan: PlannedSteps) -> None:
        """Make the optimizer steps of a call, up to `max_steps` of the trainer; the host does not wait for them."""
        trainer, optimizer, scheduler = model.trainer, model.optimizers(), model.lr_schedulers()
        loader = trainer.train_dataloader
        assert isinstance(loader, PlannedLoader)
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        num = len(plan.cells)
        if trainer.max_steps >= 0:
            num = min(num, trainer.max_steps - trainer.global_step)
        if num < 1:
            return
        if self._steps is None or self._steps.images != loader.images:  # another loader has other memory
            average = None if model.average is None else (model.average, model.network)
            what = (loader.images, _loss_of(model), optimizer.optimizer, average)
            self._steps = ReplayedSteps(plan, loader.group, len(model.classes), *what)
        self._steps.run(plan, _rates(scheduler, num))
        model.train_scores.add(self._steps.take_sums())
        for _ in range(num):
            count_optimizer_step(optimizer)
            scheduler.step()
        model.count_steps(num)


def _loss_of(model: CellModule) -> Loss:
    def loss(batch: Batch, num: torch.Tensor, score: Callable[..., None]) -> torch.Tensor:
        return model.batch_loss(
            batch, lambda weight: num.float() if model.class_weights is None else weight.sum(), score
        )

    return loss


def _rates(scheduler: torch.optim.lr_scheduler.LambdaLR, num: int) -> list[list[float]]:
    """Return the learning rate of each group of parameters in each of the next `num` steps."""
    bases = list(zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True))
    return [[float(base * factor(scheduler.last_epoch + step)) for base, factor in bases] for step in range(num)]
