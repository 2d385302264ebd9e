"""Class probabilities by torch."""

import numpy as np
import pytest
import torch

from fastcell.inference.backend_torch import TorchBackend
from fastcell.models.lightning_module import CellModule
from fastcell.models.losses import probabilities


def make_module(**settings):
    torch.manual_seed(0)
    return CellModule(network="gao", classes=["a", "b", "c"], preprocessing={"image_size": 16}, **settings).eval()


@pytest.mark.parametrize("settings", [{}, {"loss": "sigmoid"}, {"tta": True}, {"ema_decay": 0.9}])
def test_a_module_evaluates_as_lightning_s_steps_do(settings):
    module, images = make_module(**settings), torch.rand(5, 1, 16, 16)
    with torch.inference_mode():
        expected = module.predict_probabilities(images)
    backend = TorchBackend.of_module(module)
    found = backend.probabilities(images)
    assert torch.equal(found, expected)
    assert found.is_inference()
    np.testing.assert_array_equal(backend.to_host(backend.probabilities(images.numpy())), expected.numpy())


def test_flips_change_the_probabilities():
    images = torch.rand(5, 1, 16, 16)
    plain, flipped = (TorchBackend.of_module(make_module(tta=tta)).probabilities(images) for tta in (False, True))
    assert (plain - flipped).abs().max() > 1e-5
    assert torch.allclose(flipped.sum(dim=1), torch.ones(5))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "sigmoid"])
def test_logits_become_the_probabilities_of_their_loss(loss):
    logits = {"first": torch.tensor([[1.0, 2.0]]), "second": torch.tensor([[-3.0, 0.5], [0.0, 0.0]])}
    backend = TorchBackend.of_logits(logits.__getitem__, loss)
    for name, values in logits.items():
        assert torch.equal(backend.probabilities(name), probabilities(loss, values))


def test_half_precision_where_it_is_asked_for():
    seen = []

    def forward(images):
        seen.append(torch.nn.functional.linear(images, torch.ones(2, 3)).dtype)
        return images

    images = torch.ones(1, 3)
    TorchBackend(forward, torch.device("cpu"), torch.bfloat16).probabilities(images)
    TorchBackend(forward, torch.device("cpu")).probabilities(images)
    assert seen == [torch.bfloat16, torch.float32]
