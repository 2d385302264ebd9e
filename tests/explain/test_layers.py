"""The layers of a network: shapes, weights and cost, by hand."""

import pytest

from fastcell.explain.layers import trace_layers
from fastcell.models.registry import create_network


def test_layers_of_the_paper():
    layers = trace_layers(create_network("cellnet", 4, 128).eval(), 128)
    assert [(layer.channels, layer.side) for layer in layers] == [
        (32, 64),
        (32, 32),
        (64, 16),
        (64, 8),
        (128, 8),
        (128, 4),
        (64, 0),
        (4, 0),
    ]
    assert layers[0].multiply_adds == 32 * 64 * 64 * 11 * 11  # 15.9 million, as the paper's facts have it
    assert sum(layer.multiply_adds for layer in layers) == pytest.approx(39.6e6, rel=0.01)
    network = create_network("cellnet", 4, 128)
    assert sum(layer.num_weights for layer in layers) == sum(p.numel() for p in network.parameters())
    assert layers[0].detail == "11 x 11, stride 2"
    assert layers[1].detail == "2 x 2, ReLU, batch norm"


def test_layers_of_gaos_network():
    network = create_network("gao", 3, 64).eval()
    layers = trace_layers(network, 64)
    assert [layer.name for layer in layers] == [
        "convolution 1", "max-pooling 1", "convolution 2", "max-pooling 2", "convolution 3", "max-pooling 3",
        "full connection 1", "full connection 2",
    ]  # fmt: skip
    assert [(layer.channels, layer.side) for layer in layers] == [
        (6, 64), (6, 32), (16, 16), (16, 6), (32, 6), (32, 2), (150, 0), (3, 0),
    ]  # fmt: skip
    assert layers[0].detail == "7 x 7, stride 1, scaled tanh"
    assert layers[1].detail == "2 x 2, batch norm"
    assert layers[6].multiply_adds == 32 * 2 * 2 * 150
    assert layers[0].num_weights == 7 * 7 * 6 + 6
    assert layers[1].num_weights == 2 * 6  # of the batch normalisation behind it


def test_the_network_is_left_as_it_was():
    network = create_network("gao", 3, 64).eval()
    trace_layers(network, 64)
    assert not any(module._forward_hooks for module in network.modules())
