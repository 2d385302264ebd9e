"""A network's layers and filters, as numbers and as drawn."""

import numpy as np
import pyarrow.csv
import torch
from torch import nn

from fastcell.explain.layers import trace_layers
from fastcell.explain.network_figures import draw_filters, draw_network, first_convolutions, moved, start_weights
from fastcell.models.registry import create_network
from fastcell.plots.figure_files import FigureFiles


def test_every_layer_is_drawn_with_its_shape(tmp_path, drawn):
    layers = trace_layers(create_network("gao", 3, 64).eval(), 64)
    plates = FigureFiles(tmp_path)
    draw_network(plates, "gao", layers, 64, ["A", "B", "C"])
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    table = pyarrow.csv.read_csv(tmp_path / "network.csv").to_pylist()
    assert [row["name"] for row in table] == ["input", *(layer.name for layer in layers)]
    for row in table:
        shape = f"{row['channels']} @ {row['side']} x {row['side']}" if row["side"] else f"{row['channels']}"
        assert shape in texts
    assert "A, B, C" in plates.captions["network"]


def test_filters_are_those_of_the_network(tmp_path, drawn, columns):
    network = create_network("cellnet", 3, 32)
    convolutions = first_convolutions(network)
    assert [tuple(weights.shape) for _, weights in convolutions] == [(32, 1, 11, 11), (64, 32, 6, 6)]
    draw_filters(FigureFiles(tmp_path), "cellnet", convolutions)
    second = columns(tmp_path / "filters.csv", layer="convolution 2")
    weights = network.features[4].weight.detach().numpy()
    places = (second["map"], second["input"], second["row"], second["column"])
    assert len(second["weight"]) == weights.size
    np.testing.assert_allclose(second["weight"], weights[places], rtol=1e-6)
    mosaic = drawn[0].axes[0].images[0].get_array()
    first = network.features[0].weight.detach().numpy()
    np.testing.assert_allclose(mosaic[12:23, 36:47], first[16 + 3, 0] / np.abs(first).max(), rtol=1e-6)
    assert mosaic.mask[11].all()  # the gap


def test_a_large_convolution_is_cut_and_says_so(tmp_path):
    plates = FigureFiles(tmp_path)
    draw_filters(plates, "large", [("convolution 1", torch.ones(70, 40, 3, 3))])
    assert "64 maps x 32 inputs (of 70 x 40)" in plates.captions["filters"]


def test_a_network_without_convolutions():
    assert first_convolutions(nn.Linear(2, 2)) == []


def test_filters_that_have_hardly_moved_are_named(tmp_path, drawn):
    start = first_convolutions(start_weights("cellnet", 3, 32, "kaiming", 5))
    now = [(start[0][0], start[0][1] * 1.05), (start[1][0], start[1][1] * 2)]
    files = FigureFiles(tmp_path)
    draw_filters(files, "cellnet", now, start)
    assert "Convolution 1 has hardly changed from its random start (by 5% of its norm)" in files.captions["filters"]
    assert "Convolution 2" not in files.captions["filters"]
    other = first_convolutions(start_weights("cellnet", 3, 32, "kaiming", 6))
    assert moved(start[0][1], other[0][1]) > 1
    draw_filters(files, "cellnet", now)
    assert "hardly" not in files.captions["filters"]
