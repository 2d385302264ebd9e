"""The residual network against a plain computation, and its export."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fastcell.models.networks.residual import ResidualBlock, ResidualNet


def norm(maps, layer):
    """Batch normalisation in evaluation mode, written out."""
    shape = (1, -1, 1, 1)
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    return maps * scale.view(shape) + (layer.bias - layer.running_mean * scale).view(shape)


def with_other_statistics(network):
    """The network in float64 and evaluation mode, with statistics that are not those of new layers."""
    network = network.double().eval()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.2, 0.2)
                layer.running_var.uniform_(0.5, 2.0)
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.uniform_(-0.5, 0.5)
    return network


def plain_mean(maps):
    """Means of 2 x 2 squares; an odd last row or column is averaged alone."""
    height, width = maps.shape[-2:]
    rows = [maps[:, :, y : y + 2].mean(dim=2, keepdim=True) for y in range(0, height, 2)]
    maps = torch.cat(rows, dim=2)
    return torch.cat([maps[:, :, :, x : x + 2].mean(dim=3, keepdim=True) for x in range(0, width, 2)], dim=3)


@pytest.mark.parametrize("side", [1, 5, 8])
def test_a_block_is_a_plain_computation(side):
    torch.manual_seed(0)
    block = with_other_statistics(ResidualBlock(3, 4))
    maps = torch.rand(2, 3, side, side, dtype=torch.float64)
    first, first_norm, _, second, second_norm = block.residual
    _, shortcut, shortcut_norm = block.shortcut
    found = functional.relu(norm(functional.conv2d(maps, first.weight, None, 2, 1), first_norm))
    found = norm(functional.conv2d(found, second.weight, None, 1, 1), second_norm)
    wanted = functional.relu(found + norm(functional.conv2d(plain_mean(maps), shortcut.weight), shortcut_norm))
    torch.testing.assert_close(block(maps), wanted)
    assert wanted.shape[-1] == -(-side // 2)


def test_logits_come_from_the_mean_of_each_map():
    torch.manual_seed(0)
    network = with_other_statistics(ResidualNet(3))
    images = torch.rand(2, 1, 20, 20, dtype=torch.float64)
    stem, stem_norm, _, *blocks = network.features
    maps = functional.relu(norm(functional.conv2d(images, stem.weight, None, 2, 2), stem_norm))
    for block in blocks:
        maps = block(maps)
    wanted = maps.flatten(2).mean(dim=2) @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(network(images), wanted)


@pytest.mark.parametrize("size", [48, 50, 97])
def test_onnx_runtime_gives_the_same_logits(size, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = with_other_statistics(ResidualNet(3)).float()
    images, path = torch.rand(2, 1, size, size), tmp_path / "net.onnx"
    torch.onnx.export(network, (images,), str(path), input_names=["images"], dynamo=False)
    (found,) = onnxruntime.InferenceSession(str(path)).run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, network(images).detach().numpy(), rtol=1e-3, atol=1e-4)
