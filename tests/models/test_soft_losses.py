"""Loss against the probabilities of a teacher: values by hand, gradients, and odd numbers."""

import math

import numpy as np
import pytest
import torch

from fastcell.errors import ArgumentError
from fastcell.models.losses import probabilities
from fastcell.models.soft_losses import check_distillation, soft_losses, softmax_scores


def test_values_by_hand():
    taught, found = torch.log(torch.tensor([[0.9, 0.1]])), torch.log(torch.tensor([[0.6, 0.4]]))
    assert float(soft_losses(found, taught, 1.0)) == pytest.approx(0.9 * math.log(1.5) + 0.1 * math.log(0.25), abs=1e-6)
    soft = [np.sqrt([0.9, 0.1]), np.sqrt([0.6, 0.4])]  # at T = 2 probabilities go with their square roots
    wanted, other = (each / each.sum() for each in soft)
    expected = 4 * float((wanted * np.log(wanted / other)).sum())
    assert float(soft_losses(found, taught, 2.0)) == pytest.approx(expected, rel=1e-5)


def test_it_is_zero_where_both_agree_whatever_the_offset():
    taught = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert soft_losses(taught + 7, taught, 3.0).abs().max() < 1e-5


def test_the_gradient_is_that_of_the_probabilities():
    scores = torch.zeros(1, 2, requires_grad=True)
    soft_losses(scores, torch.log(torch.tensor([[0.8, 0.2]])), 1.0).sum().backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[-0.3, 0.3]]))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "sigmoid"])
def test_scores_are_of_the_probabilities_of_each_loss(loss):
    logits = torch.tensor([[3.0, -2.0, 0.5], [-80.0, -90.0, -100.0]])
    torch.testing.assert_close(softmax_scores(loss, logits).softmax(1), probabilities(loss, logits))


@pytest.mark.parametrize(("temperature", "share"), [(0, 0.5), (-1, 0.5), (math.nan, 0.5), (2e3, 0.5), (2, 0), (2, 1.1)])
def test_odd_numbers_are_refused(temperature, share):
    with pytest.raises(ArgumentError, match="--teacher_"):
        check_distillation(temperature, share)
