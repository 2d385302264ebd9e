"""Graphs from torch's exporter: what they may not hold, and networks that cannot be exported."""

from __future__ import annotations

import pytest
import torch

from fastcell.errors import DataError
from fastcell.inference.backends.write_network import export_network
from fastcell.inference.onnx.graph import build_graph
from fastcell.models.lightning_module import CellModule


class Net(torch.nn.Module):
    """A network of the user's own."""

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(image_size**2, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1))


def make_model(network: object = "cellnet") -> CellModule:
    return CellModule(network=network, classes=["a", "b"], preprocessing={"image_size": 16}).eval()  # type: ignore


@pytest.mark.parametrize("network", ["cellnet", {"class_path": f"{__name__}.Net", "init_args": {}}])
def test_a_network_that_cannot_be_exported_is_named(monkeypatch, network):
    """By its short name, in both graphs; the hint says what to take instead."""
    model = make_model(network)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("an operator is missing\nand more")

    monkeypatch.setattr("torch.onnx.export", refuse)
    named = rf"network '{model.network_name}' cannot be written as ONNX \(an operator is missing\)\. "
    with pytest.raises(DataError, match=named + "Take --backend torch"):
        export_network(model, 16)
    with pytest.raises(DataError, match=named + "Use it with fastcell predict"):
        build_graph(model)
    assert "{" not in model.network_name


def test_graphs_hold_nothing_of_this_machine():
    for graph in (export_network(make_model(), 16), build_graph(make_model())):
        nodes = [*graph.graph.node, *graph.graph.value_info, *graph.graph.input, *graph.graph.output]
        assert not any(part.metadata_props or part.doc_string for part in nodes)
        for weights in graph.graph.initializer:
            weights.ClearField("raw_data")  # any bytes may occur in random weights
        assert b".py" not in graph.SerializeToString()
        assert len({entry.domain for entry in graph.opset_import}) == len(graph.opset_import)
