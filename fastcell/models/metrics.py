"""Confusion matrix and loss kept on the device, and the scores computed from them during a run.

The full tables (precision, recall, F-score, intervals) are computed from the matrix in `fastcell.stats.scores`.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchmetrics import Metric

from fastcell.errors import invalid
from fastcell.system.own_parts import PartSpec, build_part, own_part


class RunningScores(Metric):
    """Confusion matrix and mean loss of all counted cells since the last reset, summed exactly over ranks.

    A cell counts if its weight is above 0 and its label is known. Only `compute` synchronises with the device. The
    matrix is int64 (K, K), rows = true class, columns = predicted class.
    """

    full_state_update = False
    confusion: torch.Tensor
    loss_sum: torch.Tensor
    weight_sum: torch.Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__(sync_on_compute=True)
        self.num_classes = num_classes
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("loss_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weight_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: torch.Tensor, labels: torch.Tensor, losses: torch.Tensor, weight: torch.Tensor) -> None:
        """Add a batch: logits (B, K), labels (B,) int64, losses (B,) and loss weights (B,) float32."""
        for name, value in batch_sums(logits, labels, losses, weight).items():
            getattr(self, name).add_(value)

    def add(self, sums: dict[str, torch.Tensor]) -> None:
        """Add sums of several batches (`batch_sums`), on the same device."""
        for name, value in sums.items():
            getattr(self, name).add_(value)
        self._update_count += 1
        self._computed = None

    def compute(self) -> dict[str, torch.Tensor]:
        """Return `confusion` (K, K) int64 and scalars `loss`, `accuracy`, `balanced_accuracy` (NaN without cells)."""
        return {
            "confusion": self.confusion.clone(),
            "loss": (self.loss_sum / self.weight_sum).float(),
            "accuracy": accuracy(self.confusion),
            "balanced_accuracy": balanced_accuracy(self.confusion),
        }

    def sums(self) -> dict[str, torch.Tensor]:
        """Return copies of this rank's sums since the last reset, by name."""
        return {name: getattr(self, name).clone() for name in ("confusion", "loss_sum", "weight_sum")}

    def take(self, sums: dict[str, torch.Tensor]) -> None:
        """Restore sums from the result of `sums` and continue from them."""
        for name, value in sums.items():
            setattr(self, name, value.to(getattr(self, name)))
        self._update_count += 1


class OwnMetrics(nn.Module):
    """User-selected metrics of torchmetrics over the counted cells since the last reset.

    Args:
        metrics: class paths. A metric whose constructor has an argument `num_classes` gets K. Each metric must return
            one number.
        num_classes: K.

    Attributes:
        names: names of the values: the class names in lower case, such as `multiclass_f1_score`.

    Raises:
        ArgumentError: a class cannot be built, or is not a metric.
    """

    def __init__(self, metrics: Sequence[PartSpec], num_classes: int) -> None:
        super().__init__()
        found: dict[str, Metric] = {}
        for value in metrics:
            part = own_part(value, "metrics")
            if part is None:
                hint = "Write for example torchmetrics.classification.MulticlassF1Score"
                raise invalid("metrics", "class paths", value, hint)
            metric = build_part(part, "metrics", {"num_classes": num_classes})
            if not isinstance(metric, Metric):
                raise invalid(
                    "metrics", "metrics of torchmetrics", part.class_path, "Derive it from torchmetrics.Metric"
                )
            name = stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", part.name).lower()
            number = 1
            while name in found or name in ("loss", "accuracy", "balanced_accuracy", "confusion"):
                number += 1
                name = f"{stem}_{number}"
            found[name] = metric
        self.names = list(found)
        self._metrics = list(found.values())
        self.metrics = nn.ModuleList(self._metrics)  # moves them to the device together with the model

    def update(self, predicted: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor) -> None:
        """Add the counted cells of a batch: probabilities (B, K), labels (B,) int64, weights (B,) float32."""
        counts = (weight > 0) & (labels >= 0)
        for metric in self._metrics:
            metric.update(predicted[counts], labels[counts])

    def compute(self) -> dict[str, torch.Tensor]:
        """Return the values by name, and reset the metrics.

        Raises:
            ArgumentError: a metric returns more than one number.
        """
        values: dict[str, torch.Tensor] = {}
        for name, metric in zip(self.names, self._metrics, strict=True):
            value: Any = metric.compute()
            metric.reset()
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
                raise invalid(f"metric {name}", "one that gives one number", got, "Give it average: macro")
            values[name] = value.reshape(()).float()
        return values


def batch_sums(
    logits: torch.Tensor, labels: torch.Tensor, losses: torch.Tensor, weight: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return what a batch adds to each sum of `RunningScores`, by its name, without synchronisation.

    Args:
        logits: (B, K).
        labels: (B,) int64, negative if unknown.
        losses: (B,).
        weight: (B,) float32, weight in the loss.
    """
    return {
        "confusion": batch_confusion(logits.argmax(dim=1), labels, weight, logits.shape[1]),
        "loss_sum": (losses.double() * weight).sum(),
        "weight_sum": weight.double().sum(),
    }


def batch_confusion(
    predicted: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """Return the confusion matrix of all cells with weight above 0 and a known label, without synchronisation.

    Args:
        predicted: (B,) int64 in [0, K).
        labels: (B,) int64, negative if unknown.
        weight: (B,) float32.
        num_classes: K.

    Returns:
        (K, K) int64, rows = true class, columns = predicted class.
    """
    counts = (weight > 0) & (labels >= 0)
    places = torch.where(counts, labels * num_classes + predicted, num_classes * num_classes)
    flat = torch.zeros(num_classes * num_classes + 1, dtype=torch.int64, device=labels.device)
    flat.scatter_add_(0, places, torch.ones_like(places))
    return flat[:-1].view(num_classes, num_classes)


def accuracy(confusion: torch.Tensor) -> torch.Tensor:
    """Return the fraction of counted cells that were classified correctly; NaN without cells."""
    return (confusion.diagonal().sum() / confusion.sum()).float()


def balanced_accuracy(confusion: torch.Tensor) -> torch.Tensor:
    """Return the mean recall over the classes that have cells; NaN without cells."""
    cells = confusion.sum(dim=1)
    recall = confusion.diagonal() / cells.clamp_min(1)
    return (recall.sum() / (cells > 0).sum()).float()
