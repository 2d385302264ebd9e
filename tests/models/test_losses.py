import math

import pytest
import torch

from fastcell.errors import ArgumentError
from fastcell.models.losses import cell_losses, probabilities, weighted_mean

LOGITS = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # softmax (1/4, 3/4) and (1/2, 1/2)


def test_cross_entropy_by_hand():
    losses = cell_losses("cross_entropy", LOGITS, torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([math.log(4), math.log(2)])


def test_smoothed_cross_entropy_by_hand():
    # Targets (0.9, 0.1): -(0.9 log 1/4 + 0.1 log 3/4).
    losses = cell_losses("cross_entropy", LOGITS[:1], torch.tensor([0]), label_smoothing=0.2)
    assert float(losses) == pytest.approx(0.9 * math.log(4) - 0.1 * math.log(0.75))


def test_mse_by_hand():
    losses = cell_losses("mse", LOGITS, torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([(0.75**2 + 0.75**2) / 2, 0.25])


def test_sigmoid_by_hand():
    # sigmoid(0) = 1/2, sigmoid(log 3) = 3/4; class 0 is right: -(log 1/2 + log(1 - 3/4)) / 2.
    losses = cell_losses("sigmoid", LOGITS[:1], torch.tensor([0]))
    assert float(losses) == pytest.approx((math.log(2) + math.log(4)) / 2)


@pytest.mark.parametrize("name", ["cross_entropy", "mse", "sigmoid"])
def test_unknown_label_has_no_loss_and_no_gradient(name):
    logits = LOGITS.clone().requires_grad_()
    losses = cell_losses(name, logits, torch.tensor([-1, 1]))
    losses.sum().backward()
    assert float(losses[0].detach()) == 0
    assert logits.grad[0].tolist() == [0, 0]
    assert float(logits.grad[1].abs().sum()) > 0


def test_half_precision_logits_are_taken_to_float32():
    logits = torch.tensor([[30.0, -30.0]], dtype=torch.bfloat16)
    assert float(cell_losses("cross_entropy", logits, torch.tensor([1]))) == pytest.approx(60.0)


def test_weighted_mean_by_hand():
    losses = torch.tensor([1.0, 2.0, 100.0])
    assert float(weighted_mean(losses, torch.tensor([1.0, 3.0, 0.0]))) == pytest.approx(7 / 4)
    assert float(weighted_mean(losses, torch.zeros(3))) == 0
    assert float(weighted_mean(losses, torch.tensor([1.0, 3.0, 0.0]), torch.tensor(8.0))) == pytest.approx(7 / 8)


def test_probabilities_by_hand():
    assert probabilities("cross_entropy", LOGITS)[0].tolist() == pytest.approx([0.25, 0.75])
    assert probabilities("sigmoid", LOGITS)[0].tolist() == pytest.approx([0.5 / 1.25, 0.75 / 1.25])
    far = probabilities("sigmoid", torch.tensor([[-200.0, -201.0]]))  # sigmoids underflow, their ratio does not
    assert far[0].tolist() == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e)])


def test_unknown_name():
    with pytest.raises(ArgumentError, match="cross_entropy, mse, sigmoid"):
        cell_losses("hinge", LOGITS, torch.tensor([0, 1]))
