"""Averages over flips, and over the weights of the steps."""

import torch
from fixtures.small_models import fit, make_batch, make_model


def test_flips_are_averaged():
    model = make_model(tta=True).eval()
    images = make_batch().images
    found = model.predict_probabilities(images)
    views = [images, images.flip(2), images.flip(3), images.flip(2, 3)]
    expected = torch.stack([model(view).softmax(1) for view in views]).mean(0)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(model.predict_probabilities(images.flip(3)), found, atol=1e-6)


def test_average_of_weights_evaluates(tmp_path):
    model = make_model(ema_decay=0.5, learning_rate=1e-2)
    start = model.network.classifier[-1].weight.detach().clone()
    fit(model, tmp_path, max_steps=2)
    after = model.average.module.classifier[-1].weight
    assert not torch.equal(after, model.network.classifier[-1].weight)
    assert not torch.equal(after, start)
    images = make_batch().images
    model.eval()
    assert torch.equal(model(images), model.average.module(images.contiguous(memory_format=torch.channels_last)))
