"""Start values of weights: their spread, their bounds, and what they leave alone."""

import pytest
import torch
from torch import nn

from fastcell.errors import ArgumentError
from fastcell.models.initialization import PAPER_BIAS, PAPER_STD, initialize
from fastcell.models.registry import create_network


def test_paper_start_values():
    torch.manual_seed(0)
    network = create_network("cellnet", 4, init="paper")
    weights = torch.cat([p.detach().flatten() for p in network.parameters() if p.ndim > 1])
    assert float(weights.abs().max()) <= 0.2
    # A normal truncated at two standard deviations has 0.8796 of its standard deviation left.
    assert float(weights.std()) == pytest.approx(0.08796, rel=0.01)
    biases = [layer.bias for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert all(bool((bias == 0.1).all()) for bias in biases)


def test_kaiming_start_values():
    torch.manual_seed(0)
    layer = create_network("cellnet", 4).classifier[1]
    assert float(layer.weight.detach().std()) == pytest.approx((2 / 2048) ** 0.5, rel=0.01)
    assert float(layer.bias.detach().abs().max()) == 0


def test_torch_start_values():
    torch.manual_seed(0)
    layer = create_network("cellnet", 4, init="torch").classifier[1]
    assert float(layer.weight.detach().abs().max()) == pytest.approx(2048**-0.5, rel=0.001)
    assert float(layer.weight.detach().std()) == pytest.approx((1 / (3 * 2048)) ** 0.5, rel=0.01)


def test_only_convolutions_and_connections_are_set():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Embedding(3, 4), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7.0)
    initialize(network, "paper")
    assert bool((network[1].weight == 7).all())
    assert bool((network[1].bias == 7).all())
    assert bool((network[2].weight == 7).all())
    assert bool((network[0].bias == PAPER_BIAS).all())
    assert float(network[3].weight.detach().abs().max()) <= 2 * PAPER_STD
    initialize(network, "kaiming")
    assert bool((network[0].bias == 0).all())
    before = network[0].weight.detach().clone()
    initialize(network, "torch")
    assert torch.equal(network[0].weight, before)


def test_variance_is_that_of_the_inputs_of_a_unit():
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 64, 5)
    initialize(layer, "kaiming")
    assert float(layer.weight.detach().std()) == pytest.approx((2 / (16 * 25)) ** 0.5, rel=0.02)


def test_start_values_follow_torchs_seed():
    def weights(seed):
        torch.manual_seed(seed)
        layer = nn.Linear(8, 8)
        initialize(layer, "kaiming")
        return layer.weight.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_unknown_start_values_are_refused():
    with pytest.raises(ArgumentError, match="init must be one of kaiming, torch, paper, got 'zero'. Choose one of"):
        initialize(nn.Linear(1, 1), "zero")
