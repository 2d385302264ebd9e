"""The paper's network: its stages, and its numbers against a plain computation."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fastcell.models.networks.cellnet import CONVOLUTIONS, CellNet
from fastcell.models.registry import create_network


def test_stage_order_is_convolution_pool_relu_batch_norm():
    names = [type(layer).__name__ for layer in create_network("cellnet", 4).features]
    assert names == ["SameConv2d", "SameMaxPool2d", "ReLU", "BatchNorm2d"] * 3


def pad(images, kernel, stride, value=0.0):
    """TensorFlow's "same" padding of square images, written out."""
    size = images.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before = total // 2
    return functional.pad(images, (before, total - before, before, total - before), value=value)


@pytest.mark.parametrize("wide", [False, True])
def test_logits_are_those_of_a_plain_computation(wide):
    torch.manual_seed(0)
    network = CellNet(3, 40, wide=wide).double()
    with torch.no_grad():  # statistics that are not those of a new layer
        for layer in network.features:
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.2, 0.2)
                layer.running_var.uniform_(0.5, 2.0)
                layer.weight.uniform_(0.5, 2.0)
                layer.bias.uniform_(-0.5, 0.5)
    network.eval()
    images = torch.rand(2, 1, 40, 40, dtype=torch.float64)
    maps = images
    for stage, (kernel, stride) in enumerate(((11, 2), (6, 2), (3, 1))):
        convolution, _, _, norm = network.features[4 * stage : 4 * stage + 4]
        maps = functional.conv2d(pad(maps, kernel, stride), convolution.weight, convolution.bias, stride)
        maps = functional.max_pool2d(pad(maps, 2, 2, float("-inf")), 2).clamp(min=0)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        maps = (maps - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
    values = maps.flatten(1)
    *hidden, last = [layer for layer in network.classifier if isinstance(layer, nn.Linear)]
    for layer in hidden:
        values = (values @ layer.weight.T + layer.bias).clamp(min=0)
    expected = values @ last.weight.T + last.bias
    torch.testing.assert_close(network(images), expected)


def test_connections_have_the_papers_widths():
    widths = [
        (layer.in_features, layer.out_features)
        for layer in CellNet(4, wide=True).classifier
        if hasattr(layer, "in_features")
    ]
    assert widths == [(2048, 2048), (2048, 64), (64, 4)]
    narrow = [layer.in_features for layer in CellNet(4).classifier if hasattr(layer, "in_features")]
    assert narrow == [2048, 64]


def test_convolutions_are_those_of_table_1():
    convolutions = [layer for layer in CellNet(4).features if isinstance(layer, nn.Conv2d)]
    found = tuple((layer.kernel_size[0], layer.stride[0], layer.out_channels) for layer in convolutions)
    assert found == CONVOLUTIONS == ((11, 2, 32), (6, 2, 64), (3, 1, 128))
