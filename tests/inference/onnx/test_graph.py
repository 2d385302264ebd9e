"""The graph of a classifier, before any cell goes through it."""

import json

import numpy as np
import onnx
import pytest
import torch

from fastcell.errors import ArgumentError
from fastcell.inference.compared_cells import RawCells, prepare_images
from fastcell.inference.onnx.exporter import OPSET
from fastcell.inference.onnx.graph import build_graph, save_graph
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.ops.border import border_median


def make_model(**preprocessing):
    torch.manual_seed(0)
    values = Preprocessing(image_size=16, **preprocessing).to_dict()
    return CellModule(network="gao", classes=["a", "b"], preprocessing=values).eval()


def test_a_graph_says_what_it_takes_and_gives(tmp_path):
    save_graph(build_graph(make_model(depth=16, window=(10, 500))), tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx")
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(facts["classes"]) == ["a", "b"]
    assert json.loads(facts["preprocessing"])["window"] == [10, 500]
    assert facts["input"] == "cell: (batch, 1, height, width) uint16, where 10 of the source is 0 and 500 is 65535"
    assert facts["output"] == "probabilities: (batch, 2) float32, in the order of classes"
    assert (facts["network"], facts["um_per_px"]) == ("gao", "")
    assert [entry.name for entry in graph.graph.input] == ["cell"]
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT16
    assert facts["features"] == "features: (batch, 150) float32"
    assert [entry.name for entry in graph.graph.output] == ["probabilities", "features"]
    assert {entry.domain: entry.version for entry in graph.opset_import}[""] == OPSET
    assert graph.producer_name == "fastcell"


def test_scale_needs_the_pixel_of_the_instrument():
    model = make_model(fit="scale", scale_um_per_px=0.4)
    with pytest.raises(ArgumentError, match="--um-per-px must be given for a model with 0.4 micrometres"):
        build_graph(model, None)
    with pytest.raises(ArgumentError, match="--um-per-px must be above 0"):
        build_graph(model, -1.0)


@pytest.mark.parametrize("fit", ["stretch", "contain"])
def test_a_batch_gives_what_its_cells_give_and_what_torch_gives(fit, tmp_path):
    """Batches of 1, 2 and 17 cells of one size, by one file."""
    runtime = pytest.importorskip("onnxruntime")
    model = make_model(fit=fit).eval()
    save_graph(build_graph(model), tmp_path / "cells.onnx")
    session = runtime.InferenceSession(str(tmp_path / "cells.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for num in (1, 2, 17):
        cells = rng.integers(0, 255, (num, 1, 12, 19)).astype(np.uint8)
        found, features = session.run(None, {"cell": cells})
        assert features.shape == (num, 150)
        assert found.shape == (num, len(model.classes))
        single = np.concatenate([session.run(None, {"cell": cell[None]})[0] for cell in cells])
        assert np.abs(found - single).max() < 1e-6
        raw = RawCells([cell[0] for cell in cells], np.array([border_median(cell[0]) for cell in cells], np.float32),
                       np.full(num, np.nan, np.float32), "drawn cells")  # fmt: skip
        images = prepare_images(raw, Preprocessing.from_dict(model.preprocessing))
        with torch.no_grad():
            expected = model.predict_probabilities(torch.from_numpy(images)).numpy()
        assert np.abs(found - expected).max() < 1e-5
