"""Confusion matrix and loss kept on the device, and the scores computed from them during a run.

The full tables (precision, recall, F-score, intervals) are computed from the matrix in `fastcell.stats.scores`.
"""

import torch
from torchmetrics import Metric


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
        self.confusion += batch_confusion(logits.argmax(dim=1), labels, weight, self.num_classes)
        self.loss_sum += (losses.double() * weight).sum()
        self.weight_sum += weight.double().sum()

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
