"""Layers are read where they are said to be, and near cells stay near."""

import numpy as np
import pytest
import torch
from torch import nn

from fastcell.errors import ArgumentError
from fastcell.explain.embedding import embed_in_plane, find_taps, layer_outputs, neighbour_agreement
from fastcell.models.registry import create_network


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        (
            "cellnet",
            {"pooling 2": 64 * 4 * 4, "pooling 3": 128 * 2 * 2, "full connection 1": 64, "full connection 2": 5},
        ),
        (
            "cellnet-wide",
            {
                "pooling 2": 64 * 4 * 4,
                "pooling 3": 128 * 2 * 2,
                "full connection 1": 2048,
                "full connection 2": 64,
                "full connection 3": 5,
            },
        ),
        ("gao", {"pooling 2": 16 * 6 * 6, "pooling 3": 32 * 2 * 2, "full connection 1": 150, "full connection 2": 5}),
    ],
)
def test_layers_have_the_stated_shapes(name, shapes):
    network = create_network(name, 5, 64).eval()
    where = find_taps(network)
    assert [tap.name for tap in where] == list(shapes)
    images = torch.rand(3, 1, 64, 64)
    outputs = layer_outputs(network, where, images.split(2))
    assert [values.shape for values in outputs] == [(3, num) for num in shapes.values()]
    with torch.inference_mode():
        np.testing.assert_allclose(outputs[-1], network(images).numpy(), rtol=1e-4, atol=1e-5)
        features = network.features[:-2] if name == "cellnet" else None  # without ReLU and batch normalisation
        if features is not None:
            np.testing.assert_allclose(outputs[1], features(images).flatten(1).numpy(), rtol=1e-4, atol=1e-5)
    if name.startswith("cellnet"):
        assert outputs[2].min() == 0  # behind its ReLU
    assert not network.features[1]._forward_hooks


def test_another_network_is_read_before_and_behind_its_last_layer():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 7), nn.ReLU(), nn.Linear(7, 3)).eval()
    before, behind = layer_outputs(network, find_taps(network), [torch.rand(4, 1, 8, 8)])
    assert before.shape == (4, 7)
    assert before.min() == 0
    assert behind.shape == (4, 3)
    assert find_taps(nn.Conv2d(1, 1, 1)) == []


def test_two_clouds_stay_two_clouds():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    values = rng.normal(0, 1, (60, 80)).astype(np.float32) + 6 * labels[:, None]
    layer = embed_in_plane("x", values, labels, seed=1)
    assert layer.points.shape == (60, 2)
    assert layer.num_values == 80
    assert layer.agreement == 1
    assert neighbour_agreement(layer.points, labels) == 1
    assert np.array_equal(layer.points, embed_in_plane("x", values, labels, seed=1).points)


def test_agreement_of_cells_without_any_order():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(400) % 4)
    assert neighbour_agreement(rng.normal(size=(400, 3)), labels) == pytest.approx(0.25, abs=0.05)


def test_few_and_constant_cells():
    with pytest.raises(ArgumentError, match="at least 10, got 9"):
        embed_in_plane("x", np.zeros((9, 3), np.float32), np.zeros(9, int))
    assert embed_in_plane("x", np.zeros((12, 4), np.float32), np.arange(12) % 2).points.tolist() == [[0, 0]] * 12
    line = embed_in_plane("x", np.arange(12, dtype=np.float32)[:, None], np.arange(12) % 2).points
    assert np.isfinite(line).all()
    assert line.std() > 0
