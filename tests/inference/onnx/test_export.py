"""ONNX files against torch, by ONNX Runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from fastcell import cli
from fastcell.dataset.cell_hashes import measure
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError
from fastcell.inference.onnx import export
from fastcell.inference.onnx import graph as onnx_graph
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.ops.modes import FITS, MODES
from fastcell.runs.checkpoint import load_classifier

SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (2, 7), (30, 41), (64, 64), (150, 33), (200, 301), (5, 700)]


def make_cells(depth: int = 8, um_per_px: float = np.nan) -> export.Cells:
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, size).astype(np.uint8) for size in SIZES]
    border = np.array([measure(cell)[2] for cell in pixels], np.float32)
    if depth == 16:
        pixels = [cell.astype(np.uint16) * np.uint16(257) for cell in pixels]
    return export.Cells(pixels, border, np.full(len(SIZES), um_per_px, np.float32), "random cells")


def with_preprocessing(checkpoint: Path, **changes: object) -> CellModule:
    """A trained classifier whose cells are prepared in another way."""
    trained = load_classifier(checkpoint)
    hparams = {**trained.hparams, "preprocessing": {**trained.preprocessing, **changes}}
    model = CellModule(**hparams)
    model.load_state_dict(trained.state_dict())
    return model.eval()


def difference(model: CellModule, path: Path, cells: export.Cells, um_per_px: float | None) -> export.Difference:
    onnx_graph.save(onnx_graph.build(model, um_per_px), path)
    return export.compare(path, model, cells)


@pytest.mark.slow
@pytest.mark.parametrize("normalization", MODES)
@pytest.mark.parametrize("fit", FITS)
def test_probabilities_of_a_thousand_cells(trained_run: Path, tmp_path: Path, fit: str, normalization: str) -> None:
    for antialias, depth, scale in ((False, 8, None), (True, 8, 0.4), (True, 16, 0.4)):
        changes = {"fit": fit, "normalization": normalization, "antialias": antialias, "depth": depth}
        changes["scale_um_per_px"] = scale if fit == "scale" else None
        model = with_preprocessing(export.find_checkpoint(trained_run), **changes)
        cells = export.simulated_cells(1_000, depth, 0.25)
        found = difference(model, tmp_path / "m.onnx", cells, 0.25)
        print(fit, normalization, antialias, depth, found)
        assert found.num_cells == 1_000
        assert found.probability < export.TOLERANCE
        assert found.num_same >= 999  # a cell between two classes may fall to either


def test_command(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.onnx"
    assert cli.main(["export", str(trained_run), str(out), "--check", "60"]) == 0
    text = capsys.readouterr().out
    assert "checked on 60 cells of " in text
    assert "60 of 60 of the same class" in text
    # read by ONNX Runtime alone, on cells of sizes that it has not seen, against torch
    session = onnxruntime.InferenceSession(str(out))
    (entry,), (result,) = session.get_inputs(), session.get_outputs()
    assert (entry.name, entry.type, entry.shape) == ("cell", "tensor(uint8)", [1, 1, "height", "width"])
    assert (result.name, result.type, result.shape) == ("probabilities", "tensor(float)", [1, 4])
    model = load_classifier(export.find_checkpoint(trained_run))
    cells = make_cells()
    images = torch.from_numpy(export.prepare(cells, Preprocessing.from_dict(model.preprocessing)))
    with torch.inference_mode():
        expected = model.predict_probabilities(images).numpy()
    for pixels, row in zip(cells.pixels, expected, strict=True):
        (found,) = session.run(None, {"cell": pixels[None, None]})
        np.testing.assert_allclose(found[0], row, atol=1e-5)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == model.classes
    assert Preprocessing.from_dict(json.loads(facts["preprocessing"])) == Preprocessing.from_dict(model.preprocessing)
    assert facts["fastcell_version"]
    assert b".py" not in out.read_bytes()  # nothing of the machine that wrote it
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_flips_are_averaged_in_the_graph(trained_run: Path, tmp_path: Path) -> None:
    found, _ = export.export(trained_run, tmp_path / "m.onnx", num_cells=20, tta=True)
    assert found.probability < export.TOLERANCE
    plain, _ = export.export(trained_run, tmp_path / "n.onnx", num_cells=20)
    assert plain.probability < export.TOLERANCE
    cell = export.simulated_cells(1, 8).pixels[0][None, None]
    both = [
        onnxruntime.InferenceSession(str(tmp_path / name)).run(None, {"cell": cell})[0] for name in ("m.onnx", "n.onnx")
    ]
    assert np.abs(both[0] - both[1]).max() > 1e-4


def test_a_graph_that_differs_is_not_left(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault planted into the preprocessing: the cell is read half a pixel off."""
    right = onnx_graph._tap_weights

    def wrong(graph, length, longest, preprocessing, scale):  # type: ignore[no-untyped-def]
        weights = right(graph, length, longest, preprocessing, scale)
        return graph.op(
            "Mul", weights, graph.constant(np.linspace(1, 1.3, preprocessing.image_size)[:, None], np.float32)
        )

    monkeypatch.setattr(onnx_graph, "_tap_weights", wrong)
    with pytest.raises(DataError, match=r"m\.onnx is not written: its probabilities must be torch's within 0\.0001"):
        export.export(trained_run, tmp_path / "m.onnx", num_cells=20)
    assert list(tmp_path.iterdir()) == []


def test_without_the_data_set_cells_are_simulated(trained_run: Path, tmp_path: Path) -> None:
    shutil.copy(export.find_checkpoint(trained_run), tmp_path / "moved.ckpt")
    found, cells = export.export(tmp_path / "moved.ckpt", tmp_path / "m.onnx", num_cells=10)
    assert cells.origin == "10 simulated cells"
    assert found.probability < export.TOLERANCE


def test_cells_of_a_data_set_are_those_of_the_engine(trained_data: Path) -> None:
    manifest = Manifest.open(trained_data)
    cells = export.data_set_cells(manifest, 7, 8)
    assert len(cells.pixels) == 7
    assert [cell.shape[0] for cell in cells.pixels] == manifest.column("height")[
        np.linspace(0, len(manifest) - 1, 7).round().astype(int)
    ].tolist()
    np.testing.assert_array_equal(cells.border, [measure(np.ascontiguousarray(cell))[2] for cell in cells.pixels])
    deep = export.data_set_cells(manifest, 7, 16)
    for eight, sixteen in zip(cells.pixels, deep.pixels, strict=True):
        np.testing.assert_array_equal(sixteen, eight.astype(np.uint16) * 257)


def test_scale_needs_the_pixel_of_the_instrument(trained_run: Path) -> None:
    model = with_preprocessing(export.find_checkpoint(trained_run), fit="scale", scale_um_per_px=0.4)
    with pytest.raises(ArgumentError, match="--um-per-px must be given for a model that sees 0.4 micrometres"):
        onnx_graph.build(model, None)
    with pytest.raises(ArgumentError, match="--um-per-px must be above 0"):
        onnx_graph.build(model, -1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["m.txt"], "OUT must be a file name that ends in .onnx"),
        (["none/m.onnx"], "OUT must be a file in a folder that is there"),
        (["m.onnx", "--check", "0"], "--check must be at least 1 cell"),
        (["m.onnx", "--data", "none"], "is not a packed data set"),
    ],
)
def test_arguments_that_cannot_be(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main(["export", str(trained_run), str(tmp_path / arguments[0]), *arguments[1:]]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_runs_without_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(tmp_path), str(tmp_path / "m.onnx")]) == 2
    assert "must be a run folder with a checkpoint" in capsys.readouterr().err
    (tmp_path / "metrics.json").write_text('{"checkpoint": "../../x.ckpt"}')
    (tmp_path / "last.ckpt").write_bytes(b"no checkpoint")
    assert export.find_checkpoint(tmp_path) == tmp_path / "last.ckpt"
    assert cli.main(["export", str(tmp_path), str(tmp_path / "m.onnx")]) == 2


def test_a_missing_package_is_named(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert cli.main(["export", str(trained_run), str(tmp_path / "m.onnx")]) == 2
    assert 'pip install "fastcell[onnx]"' in capsys.readouterr().err
