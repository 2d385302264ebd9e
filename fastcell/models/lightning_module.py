"""The Lightning module: a network, its loss, its optimizer and its scores."""

import copy
import math
from collections.abc import Callable
from typing import Any, get_args

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig

from fastcell import __version__
from fastcell.errors import ArgumentError, invalid
from fastcell.loading.batch import Batch, PlannedSteps
from fastcell.models.decision_shift import check_decision_shift
from fastcell.models.initialization import Init
from fastcell.models.losses import LossName, weighted_mean
from fastcell.models.metrics import OwnMetrics, RunningScores
from fastcell.models.optimization import (
    OptimizerName,
    check_optimization,
    create_optimizer,
    parameter_groups,
    rate_function,
)
from fastcell.models.planned_training import PlannedTraining, can_replay
from fastcell.models.registry import may_draw
from fastcell.models.schedule import ScheduleName
from fastcell.models.scored_network import ScoredNetwork
from fastcell.ops.step_seed import seed_generators, step_seed
from fastcell.storage.formats import FORMATS
from fastcell.system.lightning_internals import has_trainer
from fastcell.system.own_parts import own_part, usable_part

CHECKPOINT_FORMAT = FORMATS["checkpoint"].number
READ_EVERY = 50  # steps between two readings of the training scores; a reading waits for the device


class CellModule(ScoredNetwork):
    """Classifier of single-cell images.

    Every hyper-parameter is a plain value. `classes` and `preprocessing` are hyper-parameters too, so that a checkpoint
    defines the meaning of its outputs and the preparation of its inputs.

    Args:
        network: network of fastcell or timm, by name. `fastcell.models.registry` lists the names. A user-defined
            network is given by its class path (`fastcell.system.own_parts`).
        input_norm: normalise the input over the batch, without parameters. An image divided by its mean is close to 1
            with little contrast, which slows training.
        init: method for the initial weights. `fastcell.models.initialization` describes them.
        loss: loss function, computed from logits. A user-defined loss is given by its class path
            (`fastcell.models.losses.own_cell_losses`).
        metrics: further torchmetrics metrics by class path, computed on the validation and the test subset.
        label_smoothing: share of the target that is spread evenly over the classes, 0 to 1.
        optimizer: optimizer of the weights.
        learning_rate: peak learning rate.
        weight_decay: weight decay of convolutions and fully connected layers. Biases and batch norm have none.
        betas: decay rates of the two moments of Adam.
        schedule: learning-rate schedule. `fastcell.models.schedule` holds the formulas.
        warmup: share of the run in which the learning rate rises, 0 to 1.
        final_learning_rate: learning rate at the end of the run. The constant schedule ignores it.
        freeze: parts of the network that are not trained, by prefix of the parameter names (`features`,
            `classifier.1`), or `all-but-head`; their batch normalisation keeps its statistics.
        part_learning_rates: peak learning rates of parts of the network, by the prefix of their parameter names; `head`
            is the last layer.
        ema_decay: decay per step of a running average of the weights, which replaces them in evaluation; None for no
            average. The decay is smaller in the first steps, at most (1 + t) / (10 + t) after t steps.
        tta: average the predictions over the four flips of every image.
        decision_shift: emphasis on rare classes in evaluation, 0 for none. The probability of each class is multiplied
            by 1 + `decision_shift` / its share of the training cells, and normalised.
        channels_last: use torch's channels_last memory format.
        compile_network: compile the network with torch.compile.
        steps_per_call: optimizer steps in one `training_step`, each with its own batch. More steps reduce the overhead
            of the trainer per step. `global_step`, `max_steps`, schedules and checkpoints count optimizer steps.
            Settings that Lightning counts in batches (`val_check_interval`, `limit_train_batches`, callbacks) count
            calls. None for 1; ``fastcell fit`` on one GPU then takes 10.
        cuda_graph: on one GPU, with several steps in a call and the cells in a bank, replay each step as one CUDA
            graph, from the indices of the cells to the new weights (`fastcell.models.replayed_steps`).
        classes: class names in the order of the outputs. ``fastcell fit`` takes them from the data.
        preprocessing: `Preprocessing.to_dict()` of the images. ``fastcell fit`` takes it from the data.

    Raises:
        ArgumentError: a value is outside its range, or a name is unknown.
    """

    takes_padding = True
    """It weights the cells of a batch, so that batches may have their full size and padding of weight 0."""

    def __init__(
        self,
        network: str | dict[str, Any] = "cellnet",
        input_norm: bool = False,
        init: Init = "kaiming",
        loss: LossName | dict[str, Any] = "cross_entropy",
        metrics: list[str | dict[str, Any]] | None = None,
        label_smoothing: float = 0.0,
        optimizer: OptimizerName = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        betas: list[float] = [0.9, 0.999],  # noqa: B006  (a list stays loadable with weights_only; never changed)
        schedule: ScheduleName = "constant",
        warmup: float = 0.0,
        final_learning_rate: float = 1e-6,
        freeze: list[str] | None = None,
        part_learning_rates: dict[str, float] | None = None,
        ema_decay: float | None = None,
        tta: bool = False,
        decision_shift: float = 0.0,
        channels_last: bool = True,
        compile_network: bool = False,
        steps_per_call: int | None = None,
        cuda_graph: bool = True,
        classes: list[str] | None = None,
        preprocessing: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if own_part(loss, "loss") is None and loss not in get_args(LossName):
            raise invalid("loss", f"one of {', '.join(get_args(LossName))}", str(loss), "Choose one of these")
        if not 0 <= label_smoothing < 1:
            raise invalid("label_smoothing", "in [0, 1)", label_smoothing, "0 disables it")
        check_optimization(
            optimizer, learning_rate, weight_decay, betas, schedule, warmup, final_learning_rate, part_learning_rates
        )
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise invalid("ema_decay", "in [0, 1)", ema_decay, "0.99 averages over about 100 steps")
        check_decision_shift(decision_shift, loss == "cross_entropy")
        steps_per_call = 1 if steps_per_call is None else steps_per_call
        if steps_per_call < 1:
            raise invalid("steps_per_call", "at least 1", steps_per_call, "8 hides the overhead of the trainer")
        self.automatic_optimization = steps_per_call == 1
        self.classes = list(classes or [])
        self.preprocessing = copy.deepcopy(dict(preprocessing or {}))
        betas = list(betas)
        self.cuda_graph = cuda_graph  # of this machine: a checkpoint does not hold it
        self.save_hyperparameters(ignore=["cuda_graph"], logger=False)
        self.hparams.update(classes=self.classes, preprocessing=self.preprocessing)

        num_classes = len(self.classes)
        own_loss = own_part(loss, "loss")
        offered = {"num_classes": num_classes, "label_smoothing": label_smoothing}
        self.own_loss = None
        if own_loss is not None:
            self.own_loss = usable_part(own_loss, "loss", offered)
        self.own_metrics = OwnMetrics(metrics, num_classes) if metrics else None
        self._assemble()
        self._draws, self._seed = own_loss is not None or may_draw(network, self.bare_network), 0
        self.train_scores = RunningScores(num_classes)
        self.eval_scores = RunningScores(num_classes)
        self.last_scores: dict[str, float] = {}
        self.on_step_done: Callable[[], object] | None = (
            None  # called after a complete step and before the step is counted
        )
        # Adds the part of a teacher to the losses of a batch: losses, logits, batch and its step in the epoch.
        self.add_losses: Callable[[torch.Tensor, torch.Tensor, Batch, int], torch.Tensor] | None = None
        self._planned = PlannedTraining()
        self._unread = 0  # steps since the last reading
        self._steps_of_epoch = 0
        self.evaluated_confusion = None
        self.class_weights: torch.Tensor | None
        self.register_buffer("class_weights", None, persistent=False)  # moves to the device with the network
        self.register_buffer("emphasis", None, persistent=False)
        self.register_buffer("logit_shift", None, persistent=False)
        self.balanced_scores = RunningScores(num_classes)  # with the classes as in training

    # -- training

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        fits = stage == "fit"
        self._seed = int(getattr(data, "seed", torch.initial_seed()))
        weights, emphasis = (getattr(data, name, None) if fits else None for name in ("class_weights", "emphasis"))
        self.class_weights = None if weights is None else torch.as_tensor(weights).float()
        self.emphasis = None if emphasis is None else torch.as_tensor(emphasis).float()
        shift = getattr(data, "logit_shift", None) if fits and self._is_softmax() else None
        self.logit_shift = None if shift is None else torch.as_tensor(shift).float()
        if fits and self.hparams["decision_shift"]:
            counts = getattr(data, "train_counts", None)
            if counts is None:
                raise ArgumentError(
                    "decision_shift needs a data module with train_counts, the training cells of each class. Give a "
                    "CellDataModule, or leave decision_shift out."
                )
            for layer in self.decision_layers:
                layer.set_counts(counts)

    @property
    def takes_plans(self) -> bool:
        """Whether training steps are made from `PlannedSteps` (`fastcell.models.planned_training`)."""
        is_plain = type(self) is CellModule  # a class of the user may change what a step does
        return self.cuda_graph and is_plain and not self._draws and can_replay(self)

    def training_step(self, batch: Batch | tuple[Batch, ...] | PlannedSteps, batch_idx: int) -> torch.Tensor | None:
        if isinstance(batch, PlannedSteps):
            self._planned.run(self, batch)
            return None
        if self.automatic_optimization:
            assert isinstance(batch, Batch)
            return self._loss(batch, batch_idx)
        first = batch_idx * self.hparams["steps_per_call"]
        for step, one in enumerate((batch,) if isinstance(batch, Batch) else batch, first):
            self._step(one, step)
        return None

    def _step(self, batch: Batch, step: int) -> None:
        """Make one optimizer step of a call, unless `max_steps` is reached."""
        if 0 <= self.trainer.max_steps <= self.trainer.global_step:
            return
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        optimizer.zero_grad()
        self.manual_backward(self._loss(batch, step))
        optimizer.step()
        scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.count_steps(1)

    def count_steps(self, num: int) -> None:
        """Count optimizer steps for the readings of the training scores."""
        self._unread += num
        self._steps_of_epoch += num

    def on_train_epoch_start(self) -> None:
        self._steps_of_epoch = 0

    def _loss(self, batch: Batch, step: int = 0) -> torch.Tensor:
        """Return this rank's loss of a batch, which is batch `step` of the epoch."""
        if self._draws and has_trainer(self):  # a resumed run has the same dropout as an uninterrupted one
            seed_generators(step_seed("network", self._seed, self.current_epoch, step, self.global_rank))
        # DDP averages gradients over ranks. With this factor, the average is the weighted mean of the global batch.
        ranks = self._num_ranks()
        return self.batch_loss(
            batch, lambda weight: self._global_weight(weight, step) / ranks, self.train_scores.update, step
        )

    def batch_loss(
        self,
        batch: Batch,
        total: Callable[[torch.Tensor], torch.Tensor | float],
        score: Callable[..., None],
        step: int = 0,
    ) -> torch.Tensor:
        """Return the loss () of a batch, the weighted sum over its cells divided by a total weight.

        Args:
            batch: batch `step` of the epoch.
            total: function from the weights (B,) of the cells to the total weight.
            score: function that takes logits, labels, losses and weights, as `RunningScores.update`.
            step: number of the batch, for a teacher.
        """
        labels, weight = self._targets(batch)
        logits = self(batch.images)
        losses = self._cell_losses(self._as_trained(logits), labels, self.hparams["label_smoothing"])
        if self.add_losses is not None:
            losses = self.add_losses(losses, logits, batch, step)
        score(logits.detach(), labels, losses.detach(), weight)
        if self.class_weights is not None:
            weight = weight * self.class_weights[labels.clamp_min(0)]
        return weighted_mean(losses, weight, total(weight))

    def _global_weight(self, weight: torch.Tensor, step: int) -> torch.Tensor | float:
        """Return the total weight of batch `step` over all ranks; `weight` (B,) holds the weights on this rank.

        If all cells have the same weight, the loader knows the total without communication. It then includes corrupt
        cells, although they add nothing to the loss. Otherwise the ranks sum their weights, and on a GPU the host does
        not wait for the result.
        """
        loader = getattr(self.trainer, "train_dataloader", None) if has_trainer(self) else None
        known = getattr(loader, "global_weight", None)
        if known is not None and self.class_weights is None and (total := known(step)) is not None:
            return float(total)
        total = weight.sum()
        if self._num_ranks() > 1:
            torch.distributed.all_reduce(total)
        return total

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.automatic_optimization:
            if self.average is not None:
                self.average.update_parameters(self.network)
            self.count_steps(1)
        # Also read at the end of an epoch, unless the last reading was only a few steps ago: the mean of so few steps
        # would be noise.
        all_unread = self._unread == self._steps_of_epoch
        ends = self.trainer.is_last_batch and (self._unread >= READ_EVERY // 2 or all_unread)
        if self._unread >= READ_EVERY or ends:
            self._log_training()
            self._unread = 0
        if self.on_step_done is not None:
            self.on_step_done()

    def on_train_end(self) -> None:
        self._planned = PlannedTraining()  # the graph holds memory of the device
        if self._unread:  # the last steps of the run
            self._check_finite(self.train_scores.compute(), "training")

    def on_train_epoch_end(self) -> None:
        self.log_dict({f"train_{name}": value for name, value in self.last_scores.items()}, logger=False)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        hparams = self.hparams
        groups = parameter_groups(self.bare_network, self.own_loss, len(self.classes), hparams)
        fused = self.device.type in ("cpu", "cuda") and not self._clips_scaled_gradients()
        optimizer = create_optimizer(groups, hparams, fused)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_function(hparams, self.num_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def num_steps(self) -> float:
        """Return the number of optimizer steps of the whole run; infinite if neither steps nor epochs limit it."""
        steps = self.trainer.estimated_stepping_batches  # also opens the loader, whose length is used below
        if self.automatic_optimization:
            return steps
        assert self.trainer.max_epochs is not None
        epochs = self.trainer.max_epochs if self.trainer.max_epochs >= 0 else math.inf
        return min(epochs * self.steps_per_epoch(), self.trainer.max_steps if self.trainer.max_steps >= 0 else math.inf)

    def steps_per_epoch(self) -> int:
        """Return the number of optimizer steps of an epoch."""
        batches = self.trainer.num_training_batches
        if self.automatic_optimization:
            return math.ceil(batches / self.trainer.accumulate_grad_batches)
        in_epoch = getattr(self.trainer.train_dataloader, "num_steps", 1 << 62)
        return int(min(batches * self.hparams["steps_per_call"], in_epoch))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["fastcell_format"], checkpoint["fastcell_version"] = CHECKPOINT_FORMAT, __version__
        checkpoint["fastcell_decay_rises"] = self.average is None or self.average.decay_rises
        checkpoint["fastcell_unread"] = {
            "scores": {name: self._sum_over_ranks(value) for name, value in self.train_scores.sums().items()},
            "steps": self._unread,
            "steps_of_epoch": self._steps_of_epoch,
            "last_scores": dict(self.last_scores),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        unread = checkpoint.get("fastcell_unread")
        if unread is None or not has_trainer(self):
            return
        if self.trainer.is_global_zero:  # a sum over ranks
            self.train_scores.take(unread["scores"])
        self._unread, self.last_scores = unread["steps"], dict(unread["last_scores"])
        self._steps_of_epoch = unread["steps_of_epoch"]
        if self.average is not None:  # a resumed run of an earlier version continues without it
            self.average.decay_rises = bool(checkpoint.get("fastcell_decay_rises", False))

    def _is_softmax(self) -> bool:
        return self.own_loss is None and self.hparams["loss"] == "cross_entropy"

    def _log_training(self) -> None:
        scores = self.train_scores.compute()
        self._check_finite(scores, "training")
        self.train_scores.reset()
        self.last_scores = {name: float(scores[name]) for name in ("loss", "accuracy")}
        rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        self._to_logger({**{f"train_{name}": value for name, value in self.last_scores.items()}, "learning_rate": rate})

    def _num_ranks(self) -> int:
        return self.trainer.world_size if has_trainer(self) else 1

    def _sum_over_ranks(self, value: torch.Tensor) -> torch.Tensor:
        return value if self._num_ranks() == 1 else self.trainer.strategy.reduce(value, reduce_op="sum")

    def _clips_scaled_gradients(self) -> bool:
        """Return True if gradients are clipped and scaled; a fused optimizer would unscale them after clipping."""
        return bool(self.trainer.gradient_clip_val) and str(self.trainer.precision) == "16-mixed"
