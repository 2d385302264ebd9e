"""Student networks: weights by hand, and the logits of a plain computation."""

import pytest
import torch
from torch.nn import functional

from fastcell.models.networks.student import StudentNet
from fastcell.models.registry import create_network


# Convolutions 5*5*16, 3*3*16*32, 3*3*32*64; batch norm 2*(16+32+64); connections 64*4+4; width 0.5 and 2 likewise.
@pytest.mark.parametrize(
    ("name", "count"),
    [("student", 23_924), ("student-small", 6_204), ("student-wide", 93_924)],
)
def test_number_of_parameters(name, count):
    assert sum(parameter.numel() for parameter in create_network(name, 4, 32).parameters()) == count


def test_logits_are_those_of_a_plain_computation():
    torch.manual_seed(0)
    network = StudentNet(3, 0.5).double()
    with torch.no_grad():
        for norm in (network.features[1], network.features[4], network.features[7]):
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 2.0)
    network.eval()
    images = torch.rand(2, 1, 33, 33, dtype=torch.float64)
    maps = images
    for first, pad in ((0, 2), (3, 1), (6, 1)):
        convolution, norm = network.features[first], network.features[first + 1]
        maps = functional.conv2d(functional.pad(maps, (pad,) * 4), convolution.weight, stride=2)
        maps = (maps - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps).sqrt()[:, None, None]
        maps = maps.clamp_min(0)
    means = maps.flatten(2).mean(2)
    head = network.classifier
    torch.testing.assert_close(network(images), means @ head.weight.T + head.bias)
