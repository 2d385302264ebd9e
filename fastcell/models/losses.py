"""Losses on logits, one value per cell, and the class probabilities that belong to each loss.

Figure 7 of the paper compares the three losses. Its released code applies softmax in the network and again in the loss;
here every loss takes logits, so softmax is applied at most once.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch.nn import functional

from fastcell.errors import invalid

LossName = Literal["cross_entropy", "mse", "sigmoid"]


def cell_losses(name: str, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return the loss of each cell.

    Args:
        name: `cross_entropy`: cross entropy of the softmax. `mse`: squared error of the softmax, mean over classes.
            `sigmoid`: binary cross entropy of each class against the rest, mean over classes.
        logits: (B, K) floating point.
        labels: (B,) int64, in [0, K), or negative for an unknown class, which gives loss 0.
        label_smoothing: weight of the uniform distribution that is mixed into the one-hot targets, 0 to 1 (Szegedy et
            al., CVPR 2016).

    Returns:
        (B,) float32.

    Raises:
        ArgumentError: `name` is unknown.
    """
    if name not in LOSS_FUNCTIONS:
        raise invalid("loss", f"one of {', '.join(get_args(LossName))}", name, "Choose one of these")
    known = labels >= 0
    losses = LOSS_FUNCTIONS[name](logits.float(), _targets(labels, logits.shape[1], label_smoothing))
    return torch.where(known, losses, torch.zeros_like(losses))


def own_cell_losses(loss: Callable[..., torch.Tensor], logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss of each cell from a user-defined loss function.

    Args:
        loss: function of logits (B, K) float32 and labels (B,) int64 that returns (B,), the loss of each cell.
        logits: (B, K) floating point.
        labels: (B,) int64, in [0, K), or negative for an unknown class, which gives loss 0.

    Returns:
        (B,) float32.

    Raises:
        ArgumentError: the loss returns something else.
    """
    found = loss(logits.float(), labels.clamp_min(0))
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if shape != tuple(labels.shape):
        raise invalid("loss", f"a function that returns one number per cell, {tuple(labels.shape)}", shape,
                      "Give a loss of torch reduction: none")  # fmt: skip
    return torch.where(labels >= 0, found.float(), torch.zeros_like(found, dtype=torch.float32))


def probabilities(name: str, logits: torch.Tensor) -> torch.Tensor:
    """Return class probabilities (B, K) float32 that sum to 1: the softmax, or normalised sigmoids for `sigmoid`."""
    if name == "sigmoid":
        log_sigmoid = functional.logsigmoid(logits.float())  # in log space: sigmoids of very negative logits underflow
        return log_sigmoid.softmax(dim=1)
    return logits.float().softmax(dim=1)


def weighted_mean(
    losses: torch.Tensor, weight: torch.Tensor, total_weight: torch.Tensor | float | None = None
) -> torch.Tensor:
    """Return sum(weight * loss) / `total_weight`, by default the sum of `weight`; 0 if no cell counts."""
    total, least = weight.sum() if total_weight is None else total_weight, torch.finfo(torch.float32).tiny
    divisor = total.clamp_min(least) if isinstance(total, torch.Tensor) else max(total, least)
    return (losses * weight).sum() / divisor


def _targets(labels: torch.Tensor, num_classes: int, smoothing: float) -> torch.Tensor:
    hot = (labels[:, None] == torch.arange(num_classes, device=labels.device)).float()
    return hot * (1 - smoothing) + smoothing / num_classes


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -(logits.log_softmax(dim=1) * targets).sum(dim=1)


def _mse(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (logits.softmax(dim=1) - targets).square().mean(dim=1)


def _sigmoid(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)


LOSS_FUNCTIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross_entropy": _cross_entropy,
    "mse": _mse,
    "sigmoid": _sigmoid,
}
