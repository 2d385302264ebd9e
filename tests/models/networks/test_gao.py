"""The network of Gao et al.: its activation, its stages, and its numbers against a plain computation."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from fastcell.models.networks.gao import STAGES, GaoNet, ScaledTanh


def test_scaled_tanh_maps_one_to_one():
    found = ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0, 3.0, 100.0]))
    assert found.tolist() == pytest.approx([-1, 0, 1, 1.7159 * math.tanh(2), 1.7159], abs=1e-4)


def pad(images, kernel, stride, value=0.0):
    """TensorFlow's "same" padding of square images, written out."""
    size = images.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before = total // 2
    return functional.pad(images, (before, total - before, before, total - before), value=value)


def test_logits_are_those_of_a_plain_computation():
    torch.manual_seed(0)
    network = GaoNet(3, 40).double()
    with torch.no_grad():  # statistics that are not those of a new layer
        for layer in network.features:
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.2, 0.2)
                layer.running_var.uniform_(0.5, 2.0)
    network.eval()
    images = torch.rand(2, 1, 40, 40, dtype=torch.float64)
    maps = images
    for stage, (kernel, stride, pool) in enumerate(((7, 1, 2), (4, 2, 3), (3, 1, 3))):
        convolution, _, _, norm = network.features[4 * stage : 4 * stage + 4]
        maps = functional.conv2d(pad(maps, kernel, stride), convolution.weight, convolution.bias, stride)
        maps = 1.7159 * torch.tanh(2 * maps / 3)
        maps = functional.max_pool2d(pad(maps, pool, pool, float("-inf")), pool)
        maps = (maps - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps).sqrt()[:, None, None]
    first, last = (layer for layer in network.classifier if isinstance(layer, nn.Linear))
    hidden = 1.7159 * torch.tanh(2 / 3 * (maps.flatten(1) @ first.weight.T + first.bias))
    torch.testing.assert_close(network(images), hidden @ last.weight.T + last.bias)


def test_stages_and_connections_are_those_of_the_adapted_release():
    network = GaoNet(4)
    convolutions = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
    found = [(layer.kernel_size[0], layer.stride[0], layer.out_channels) for layer in convolutions]
    assert (
        found == [(kernel, stride, maps) for kernel, stride, maps, _ in STAGES] == [(7, 1, 6), (4, 2, 16), (3, 1, 32)]
    )
    connections = [layer for layer in network.classifier if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in connections] == [(512, 150), (150, 4)]
