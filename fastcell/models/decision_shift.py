"""A decision that counts finding rare classes: probabilities weighted against the class frequencies."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fastcell.errors import ArgumentError, invalid


class DecisionShift(nn.Module):
    """Layer that adds log(1 + strength / f) to the logits of a class in evaluation, and changes nothing in training.

    f is the share of the class in the training cells. The class of the largest shifted logit maximises the expected
    value of accuracy + strength x K x balanced accuracy over K classes, if the probabilities without the shift are
    right: a cell of class k adds 1 / N to the accuracy and 1 / (K f N) to the balanced accuracy of N cells.

    Args:
        strength: 0 or more.
        num_classes: K.

    Attributes:
        shift: (K,) float32, part of the state; 0 before `set_counts`.

    Source: threshold of a linear combination of recalls: Narasimhan et al., ICML 2015; shift of logits after training:
        Menon et al., ICLR 2021, arxiv.org/abs/2007.07314.
    """

    shift: torch.Tensor

    def __init__(self, strength: float, num_classes: int) -> None:
        super().__init__()
        self.strength = strength
        self.register_buffer("shift", torch.zeros(num_classes))

    def set_counts(self, counts: npt.ArrayLike) -> None:
        """Set the shift.

        Args:
            counts: training cells of the first classes, repeats not counted; a class without cells is not shifted.
        """
        given = np.asarray(counts, np.float64)
        cells = np.pad(given, (0, len(self.shift) - len(given)))
        share = np.where(cells > 0, cells / cells.sum(), np.inf)
        self.shift.copy_(torch.as_tensor(np.log1p(self.strength / share)))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self.training else logits + self.shift


def check_decision_shift(strength: float, softmax: bool) -> None:
    """Check the strength of a shift.

    Raises:
        ArgumentError: it is negative or not finite, or the loss is not the cross entropy of the softmax.
    """
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength < math.inf:
        raise invalid("decision_shift", "a number from 0", strength, "0 decides for the most probable class")
    if strength and not softmax:
        raise ArgumentError(
            f"decision_shift must be 0 with another loss than cross_entropy, got {strength}: the shift is one of "
            "logarithms of probabilities. Leave it out, or give --model.loss cross_entropy."
        )
