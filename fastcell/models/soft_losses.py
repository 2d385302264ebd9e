"""Distillation loss: compare class probabilities with those of a teacher (Hinton et al. 2015, arXiv 1503.02531)."""

from __future__ import annotations

import torch
from torch.nn import functional

from fastcell.errors import invalid

TEMPERATURE, SHARE = 2.0, 0.7
"""Defaults of the temperature, and of the teacher's share of the loss."""


def check_distillation(temperature: float, share: float, prefix: str = "--teacher_") -> None:
    """Check temperature and share of a distillation.

    Args:
        temperature: temperature of the compared probabilities.
        share: weight of the teacher in the loss.
        prefix: beginning of the names of both options, for messages.

    Raises:
        ArgumentError: the temperature is not in (0, 1000], or the share is not in (0, 1].
    """
    if not 0 < temperature <= 1e3:
        rule = "above 0 and at most 1,000"
        raise invalid(f"{prefix}temperature", rule, temperature, f"Leave it out for {TEMPERATURE:g}")
    if not 0 < share <= 1:
        raise invalid(f"{prefix}share", "above 0 and at most 1", share, f"Leave it out for {SHARE:g}")


def softmax_scores(loss: str, logits: torch.Tensor) -> torch.Tensor:
    """Return scores (B, K) float32 whose softmax is the class probabilities of a network trained with `loss`."""
    return functional.logsigmoid(logits.float()) if loss == "sigmoid" else logits.float()


def soft_losses(scores: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the loss of each cell against the probabilities of a teacher, (B,) float32.

    It is T^2 KL(softmax(taught / T) || softmax(scores / T)). The factor T^2 makes the size of the gradient independent
    of T.

    Args:
        scores: (B, K) float32 scores of the network, see `softmax_scores`.
        taught: (B, K) float32 scores of the teacher, with the classes in the same order.
        temperature: T, above 0. Larger values give more weight to classes that are unlikely according to the teacher.
    """
    wanted = (taught / temperature).log_softmax(dim=1)
    found = (scores / temperature).log_softmax(dim=1)
    return (wanted.exp() * (wanted - found)).sum(dim=1) * temperature**2
