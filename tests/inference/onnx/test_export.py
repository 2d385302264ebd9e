"""ONNX files against torch, by ONNX Runtime."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from fixtures.raw_cells import make_cells

import fastcell
from fastcell.cli import main as cli
from fastcell.errors import DataError
from fastcell.inference import compared_cells
from fastcell.inference.onnx import export
from fastcell.inference.onnx import graph as onnx_graph
from fastcell.inference.onnx import preprocessing as preprocessing_module
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.ops.constants import FITS, MODES
from fastcell.runs.checkpoint import load_classifier, read_checkpoint
from fastcell.runs.run_folder import find_checkpoint


def with_preprocessing(checkpoint, **changes):
    """A trained classifier whose cells are prepared in another way."""
    trained = load_classifier(checkpoint)
    hparams = {**trained.hparams, "preprocessing": {**trained.preprocessing, **changes}}
    model = CellModule(**hparams)
    model.load_state_dict(trained.state_dict())
    return model.eval()


def difference(model, path, cells, um_per_px):
    onnx_graph.save_graph(onnx_graph.build_graph(model, um_per_px), path)
    return export.compare_with_torch(path, model, cells)


@pytest.mark.slow
@pytest.mark.parametrize("normalization", MODES)
@pytest.mark.parametrize("fit", FITS)
def test_probabilities_of_a_thousand_cells(trained_run, tmp_path, fit, normalization):
    for antialias, depth, scale in ((False, 8, None), (True, 8, 0.4), (True, 16, 0.4)):
        changes = {"fit": fit, "normalization": normalization, "antialias": antialias, "depth": depth}
        changes["scale_um_per_px"] = scale if fit == "scale" else None
        model = with_preprocessing(find_checkpoint(trained_run), **changes)
        cells = compared_cells.simulated_cells(1_000, depth, 0.25)
        found = difference(model, tmp_path / "m.onnx", cells, 0.25)
        print(fit, normalization, antialias, depth, found)
        assert found.num_cells == 1_000
        assert found.probability < export.TOLERANCE
        assert found.num_same >= 999  # a cell between two classes may fall to either


def test_command(trained_run, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    assert cli.main(["export", str(trained_run), str(out), "--check", "60"]) == 0
    text = capsys.readouterr().out
    assert "checked on 60 cells of " in text
    assert "60 of 60 of the same class" in text
    # read by ONNX Runtime alone, on cells of sizes that it has not seen, against torch
    session = onnxruntime.InferenceSession(str(out))
    (entry,), (result, layer) = session.get_inputs(), session.get_outputs()
    assert (entry.name, entry.type, entry.shape) == ("cell", "tensor(uint8)", ["batch", 1, "height", "width"])
    assert (result.name, result.type, result.shape) == ("probabilities", "tensor(float)", ["batch", 4])
    model = load_classifier(find_checkpoint(trained_run))
    cells = make_cells()
    images = torch.from_numpy(compared_cells.prepare_images(cells, Preprocessing.from_dict(model.preprocessing)))
    assert (layer.name, layer.shape) == ("features", ["batch", 64])
    with torch.inference_mode():
        activations = model.features_and_logits(images)[0].numpy()
    expected = fastcell.load(trained_run).predict_proba(cells.pixels)  # calibrated
    for pixels, row, inner in zip(cells.pixels, expected, activations, strict=True):
        found, features = session.run(None, {"cell": pixels[None, None]})
        np.testing.assert_allclose(found[0], row, atol=1e-5)
        np.testing.assert_allclose(features[0], inner, atol=1e-3, rtol=1e-4)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == model.classes
    assert Preprocessing.from_dict(json.loads(facts["preprocessing"])) == Preprocessing.from_dict(model.preprocessing)
    assert facts["fastcell_version"]
    assert b".py" not in out.read_bytes()  # nothing of the machine that wrote it
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_probabilities_are_calibrated_as_those_of_predict(trained_run, tmp_path):
    """With a temperature far from 1 in the checkpoint."""
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    checkpoint = find_checkpoint(run)
    content = read_checkpoint(checkpoint)
    content["fastcell_confidence"]["temperature"] = 3.0
    torch.save(content, tmp_path / "new")
    (tmp_path / "new").replace(checkpoint)
    export.export(run, tmp_path / "m.onnx", num_cells=20)
    cells = compared_cells.simulated_cells(5, 8).pixels
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    found = np.concatenate([session.run(["probabilities"], {"cell": cell[None, None]})[0] for cell in cells])
    np.testing.assert_allclose(found, fastcell.load(run).predict_proba(cells), atol=1e-5)
    plain = fastcell.load(trained_run).predict_proba(cells)
    assert np.abs(found - plain).max() > 1e-3
    assert session.get_modelmeta().custom_metadata_map["temperature"] == "3.0"


def test_flips_are_averaged_in_the_graph(trained_run, tmp_path):
    found, _ = export.export(trained_run, tmp_path / "m.onnx", num_cells=20, tta=True)
    assert found.probability < export.TOLERANCE
    plain, _ = export.export(trained_run, tmp_path / "n.onnx", num_cells=20)
    assert plain.probability < export.TOLERANCE
    cell = compared_cells.simulated_cells(1, 8).pixels[0][None, None]
    both = [
        onnxruntime.InferenceSession(str(tmp_path / name)).run(["probabilities"], {"cell": cell})[0]
        for name in ("m.onnx", "n.onnx")
    ]
    assert np.abs(both[0] - both[1]).max() > 1e-4


def test_a_graph_that_differs_is_not_left(trained_run, tmp_path, monkeypatch):
    """A fault planted into the preprocessing: the cell is read half a pixel off."""
    right = preprocessing_module._tap_weights

    def wrong(length, longest, preprocessing, scale):
        weights = right(length, longest, preprocessing, scale)
        return weights * torch.linspace(1, 1.3, preprocessing.image_size)[:, None]

    monkeypatch.setattr(preprocessing_module, "_tap_weights", wrong)
    with pytest.raises(
        DataError, match=r"m\.onnx is not written: its probabilities must equal those of torch within 0\.0001"
    ):
        export.export(trained_run, tmp_path / "m.onnx", num_cells=20)
    assert list(tmp_path.iterdir()) == []


def test_without_the_data_set_cells_are_simulated(trained_run, tmp_path):
    shutil.copy(find_checkpoint(trained_run), tmp_path / "moved.ckpt")
    found, cells = export.export(tmp_path / "moved.ckpt", tmp_path / "m.onnx", num_cells=10)
    assert cells.origin == "10 simulated cells"
    assert found.probability < export.TOLERANCE
