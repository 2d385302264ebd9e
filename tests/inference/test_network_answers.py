"""Probabilities of a network's logits, without torch: the values that torch gives."""

import numpy as np
import pytest
import torch

from fastcell.inference.network_answers import probabilities_of
from fastcell.models.losses import probabilities


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "sigmoid"])
def test_probabilities_are_those_of_torch(loss):
    logits = np.array([[0.5, -2, 1], [80, -80, 0], [-200, -300, -250], [0, 0, 0]], np.float32)
    expected = probabilities(loss, torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(probabilities_of(loss, logits), expected, atol=2e-7)
    broken = probabilities_of(loss, np.array([[np.nan, 0.0]], np.float32))
    assert np.isnan(broken).all()
