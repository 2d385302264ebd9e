"""A run as a folder for others: same answers, no trace of this machine, own networks by trust."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import fastcell
from fastcell.cli import main as cli
from fastcell.dataset.cell_hashes import version_id
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError
from fastcell.inference.sharing.share import share
from fastcell.runs.run_folder import find_checkpoint


@pytest.fixture(scope="module")
def shared(trained_run, tmp_path_factory):
    """Folder of the shared model of `trained_run`."""
    out = tmp_path_factory.mktemp("shared") / "donors model"
    assert cli.main(["export", str(trained_run), str(out), "--check", "50", "--licence", "MIT"]) == 0
    return out


def test_it_answers_as_the_run(shared, trained_run, trained_data, tmp_path):
    assert sorted(path.name for path in shared.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    ours, theirs = fastcell.load(trained_run), fastcell.load(shared)
    cells = [np.random.default_rng(n).integers(0, 256, (20 + n, 31)).astype(np.uint8) for n in range(9)]
    assert theirs.predict(cells).to_table().equals(ours.predict(cells).to_table())  # probabilities, unlike, reasons
    assert theirs.scores == ours.scores
    assert theirs.temperature == ours.temperature
    assert repr(theirs).replace(str(shared), "") == repr(ours).replace(str(trained_run), "")
    tables = []
    for number, model in enumerate((trained_run, shared)):
        out = tmp_path / f"{number}.parquet"
        assert cli.main(["predict", str(model), str(trained_data), "--out", str(out)]) == 0
        tables.append(pq.read_table(out))
    assert tables[0].equals(tables[1])


def test_nothing_of_this_machine_is_in_it(shared, trained_run, trained_data):
    for path in shared.iterdir():
        content = path.read_bytes()
        for word in (trained_run.parent, trained_data.parent, Path.home()):
            assert str(word).encode() not in content
    card = (shared / "README.md").read_text()
    manifest = Manifest.open(trained_data)
    assert f"| version of the data set | {version_id(manifest)} |" in card
    assert "license: mit" in card
    metrics = json.loads((trained_run / "metrics.json").read_text())
    assert f"| accuracy | {metrics['test']['accuracy']['value']:.3f} |" in card


def test_commands_that_follow(shared, trained_data, tmp_path, capsys):
    out = tmp_path / "p.csv"
    assert cli.main(["predict", str(shared), str(trained_data), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert f"next: fastcell convert {out} {out.with_suffix('.fcs')}\n" in text
    assert "fastcell count" not in text  # a shared model has no predictions to correct counts with
    assert cli.main(["test", str(shared), str(trained_data)]) == 0
    assert "next:" not in capsys.readouterr().out
    assert cli.main(["fit", str(trained_data), f"--ckpt_path={shared}/model.safetensors", f"--runs={tmp_path}"]) == 2
    assert "It has weights alone: give --start_from" in capsys.readouterr().err


def test_files_that_are_not_packed(shared, tmp_path):
    import cv2

    (tmp_path / "new").mkdir()
    cv2.imwrite(str(tmp_path / "new" / "1.png"), np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8))
    assert cli.main(["predict", str(shared), str(tmp_path / "new"), "--out", str(tmp_path / "p.csv")]) == 0
    assert (tmp_path / "p.csv").read_text().splitlines()[1].startswith('"1.png"')


def test_averaged_weights_are_those_of_evaluation(trained_data, tmp_path):
    arguments = ["--data.image_size=16", "--trainer.max_steps=3", "--trainer.max_epochs=-1", "--model.ema_decay=0.5"]
    assert cli.main(["fit", str(trained_data), f"--runs={tmp_path / 'runs'}", *arguments]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    check = share(run, tmp_path / "model", num_cells=20)
    assert check.largest == 0
    assert check.num_cells == 20


def test_without_the_data_set(trained_run, tmp_path):
    shutil.copy(find_checkpoint(trained_run), tmp_path / "moved.ckpt")
    check = share(tmp_path / "moved.ckpt", tmp_path / "model", num_cells=5)
    assert (check.largest, check.origin) == (0, "5 simulated cells")
    assert fastcell.load(tmp_path / "model").scores == {}


def test_what_is_refused(shared, trained_run, tmp_path, capsys):
    with pytest.raises(ArgumentError, match="It is a shared model already: copy its folder"):
        share(shared, tmp_path / "again")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_text("x")
    with pytest.raises(ArgumentError, match="OUT must be a new or empty folder"):
        share(trained_run, tmp_path / "taken")
    for words, message in (
        (["model.safetensors"], "OUT must be a file name that ends in .onnx, or a new folder"),
        (["m", "--tta"], "--tta must be left out for a folder"),
        (["m", "--um-per-px", "0.5"], "--um-per-px must be left out for a folder"),
        (["m", "--check", "0"], "--check must be at least 1 cell"),
        (["m.onnx", "--licence", "mit"], "--licence must be left out for an ONNX file"),
    ):
        assert cli.main(["export", str(trained_run), str(tmp_path / words[0]), *words[1:]]) == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_model_that_differs_is_not_left(trained_run, tmp_path, monkeypatch):
    """A fault planted into the weights that are written."""
    from fastcell.inference.sharing import share as module

    right = module._tensors

    def wrong(model, content):
        tensors = right(model, content)
        return {name: value * 1.5 if name.endswith("weight") else value for name, value in tensors.items()}

    monkeypatch.setattr(module, "_tensors", wrong)
    with pytest.raises(DataError, match="is not written: its probabilities must be those of the run"):
        share(trained_run, tmp_path / "model", num_cells=10)
    assert list(tmp_path.iterdir()) == []
