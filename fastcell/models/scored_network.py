"""Evaluation of a network: predictions of batches, and the scores of an epoch."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from pytorch_lightning.trainer.states import TrainerFn

from fastcell.errors import DIVERGED_HINT, DivergedError
from fastcell.loading.batch import Batch
from fastcell.models.assembled_network import AssembledNetwork
from fastcell.models.losses import cell_losses, own_cell_losses
from fastcell.models.metrics import OwnMetrics, RunningScores
from fastcell.models.replayed_forward import ReplayedForward


class Prediction(NamedTuple):
    """Prediction for a batch, on the device of the batch.

    Attributes:
        probabilities: (B, K) float32; rows sum to 1, columns are in the order of the model's `classes`.
        cell_ids: (B,) int64, row of the manifest.
        weight: (B,) float32, 0 for padding and replaced cells.
        features: (B, F) float32 penultimate activations; None in validation and test.
    """

    probabilities: torch.Tensor
    cell_ids: torch.Tensor
    weight: torch.Tensor
    features: torch.Tensor | None = None


class ScoredNetwork(AssembledNetwork):
    """A network whose predictions are scored with the weights of the cells, and logged.

    Attributes:
        eval_scores: running scores of the subset.
        balanced_scores: the same with the classes as in training.
        own_metrics: user-defined metrics, if there are any.
        evaluated_confusion: (K, K) confusion matrix of the last evaluation, rows = true class.
        emphasis: (K,) weight of a training cell of each class; None if all count equally.
        logit_shift: (K,) shift of the logits in the training loss; None without one.
    """

    eval_scores: RunningScores
    balanced_scores: RunningScores
    own_metrics: OwnMetrics | None
    evaluated_confusion: torch.Tensor | None
    emphasis: torch.Tensor | None
    logit_shift: torch.Tensor | None
    _unread = 0  # steps since the last reading of the training scores
    _replayed: ReplayedForward | None = None

    def validation_step(self, batch: Batch, batch_idx: int) -> Prediction:  # type: ignore[override]
        return Prediction(self._score(batch), batch.cell_ids, batch.weight)

    def test_step(self, batch: Batch, batch_idx: int) -> Prediction:  # type: ignore[override]
        return Prediction(self._score(batch), batch.cell_ids, batch.weight)

    def on_predict_start(self) -> None:
        if self.has_small_network:  # another one may work on the host, too
            self._replayed = ReplayedForward(self.features_and_probabilities, self.device)

    def on_predict_end(self) -> None:
        self._replayed = None  # the graph holds memory of the device

    def predict_step(self, batch: Batch, batch_idx: int) -> Prediction:
        features, predicted = (self._replayed or self.features_and_probabilities)(batch.images)
        return Prediction(predicted, batch.cell_ids, batch.weight, features)

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("valid")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def _targets(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return batch.labels, batch.weight * (batch.labels >= 0)

    def _score(self, batch: Batch) -> torch.Tensor:
        labels, weight = self._targets(batch)
        logits, predicted = self._evaluate(batch.images)
        losses = self._cell_losses(logits, labels)
        if self.own_metrics is not None:
            self.own_metrics.update(predicted, labels, weight)
        self.eval_scores.update(predicted, labels, losses, weight)
        if self.emphasis is not None:
            if self.logit_shift is not None or self.hparams["decision_shift"]:
                losses = self._cell_losses(self._as_trained(logits), labels)
            self.balanced_scores.update(predicted, labels, losses, weight * self.emphasis[labels.clamp_min(0)])
        return predicted

    def _as_trained(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits that the training loss compares with the labels (`class_balance.logit_shift`)."""
        for layer in () if self.training else self.decision_layers[:1]:
            logits = logits.float() - layer.shift
        return logits if self.logit_shift is None else logits.float() + self.logit_shift

    def _cell_losses(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        if self.own_loss is not None:
            return own_cell_losses(self.own_loss, logits, labels)
        return cell_losses(self.hparams["loss"], logits, labels, label_smoothing)

    def _log_evaluation(self, part: str) -> None:
        scores = self.eval_scores.compute()
        self.eval_scores.reset()
        self.evaluated_confusion = scores.pop("confusion")
        if self.emphasis is not None:
            scores["balanced_loss"] = self.balanced_scores.compute()["loss"]
            self.balanced_scores.reset()
        if self.own_metrics is not None:
            scores |= self.own_metrics.compute()
        named = {f"{part}_{name}": value for name, value in scores.items()}
        self.log_dict(named, logger=False)
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self._check_finite(scores | {"confusion": self.evaluated_confusion}, "validation")
            self._to_logger({name: float(value) for name, value in named.items()})

    def _check_finite(self, scores: Mapping[str, torch.Tensor], what: str) -> None:
        """Raise a `DivergedError`, on all ranks alike, if a mean loss over all ranks is not finite."""
        loss = float(scores["loss"])
        if math.isfinite(loss) or not int(scores["confusion"].sum()):  # without cells the mean is NaN
            return
        steps = f"in the {self._unread:,} steps up to step" if what == "training" else "after step"
        raise DivergedError(
            f"the {what} loss must be finite, got {loss} {steps} {self.trainer.global_step:,}: training has diverged. "
            f"{DIVERGED_HINT}."
        )

    def _to_logger(self, values: dict[str, float]) -> None:
        for logger in self.loggers:
            logger.log_metrics({"epoch": self.trainer.current_epoch, **values}, step=self.trainer.global_step)
