"""``fastcell explain`` on a run of its own, as a user calls it."""

import csv
import json
import shutil

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from fastcell.cli import main as cli
from fastcell.cli.explain import main
from fastcell.cli.pack import main as pack
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.split_table import write_split
from fastcell.errors import ArgumentError, DataError
from fastcell.explain.explanation import EXPLANATION_PARTS
from fastcell.inference.probabilities import num_called_otherwise, part_outputs
from fastcell.runs.open_run import open_run
from fastcell.stats.calibration import fit_temperature, log_probabilities, rescale

CLASSES = ["dots", "plain"]
QUICK = ["--cells=4", "--positions=4", "--embed=12"]


def draw_cells(folder):
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(40):
            cell = rng.normal(100, 5, rng.integers(14, 24, 2))
            if name == "dots" or number % 10 == 0:  # one in ten is beyond telling
                cell[4:9, 4:9] += 100
            cv2.imwrite(str(folder / name / f"{number:03d}.png"), cell.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with the data set `cells` and the run `run`."""
    import pytorch_lightning as pl

    from fastcell.loading.datamodule import CellDataModule
    from fastcell.models.lightning_module import CellModule

    folder = tmp_path_factory.mktemp("explain")
    draw_cells(folder / "source")
    assert pack([str(folder / "source"), str(folder / "cells")]) == 0
    data = CellDataModule(str(folder / "cells"), image_size=16, batch_size=13, threads=1, augment=False, seed=0)
    torch.manual_seed(0)
    model = CellModule(learning_rate=3e-3, classes=CLASSES, preprocessing=data.preprocessing.to_dict())
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=6, enable_model_summary=False, use_distributed_sampler=False, **quiet)
    trainer.fit(model, datamodule=data)
    run = folder / "run"
    run.mkdir()
    trainer.save_checkpoint(run / "best.ckpt")
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"path": str(folder / "cells"), "split_name": "default"}}))
    (run / "metrics.json").write_text('{"checkpoint": "best.ckpt"}')
    return folder


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made / "run", tmp_path / "run")


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_figure_with_its_data(run, made, capsys):
    assert cli.main(["explain", str(run), *QUICK]) == 0
    said = capsys.readouterr().out
    names = ["network", "filters", "occlusion", "occlusion_mean", "embedding", "calibration", "roc_pr", "reject"]
    told = json.loads((run / "explain" / "explain.json").read_text())
    assert list(told["captions"])[: len(names)] == names
    for name in told["captions"]:
        assert cv2.imread(str(run / "explain" / f"{name}.png")) is not None
        assert (run / "explain" / f"{name}.pdf").stat().st_size > 1000
        assert len(read(run / "explain" / f"{name}.csv")) > 0
    assert f"figures {run / 'explain'}" in said
    manifest = Manifest.open(made / "cells")
    assert told["cells"] == f"16 test cells of {manifest.info.name}"
    assert not list(run.rglob("*.partial"))

    table = read(run / "explain" / "occlusion.csv")
    assert {row["class"] for row in table} == set(CLASSES)
    ids = {int(row["cell_id"]) for row in table}
    assert len(table) == 4 * 16
    assert all(manifest.split()[cell_id] == "test" for cell_id in ids)
    assert len(read(run / "explain" / "embedding.csv")) == 4 * 12
    assert told["classes"]["dots"]["num_positive"] == 8


def test_the_temperature_is_that_of_the_validation_part_and_told_to_others(run, capsys, monkeypatch):
    monkeypatch.setattr("fastcell.inference.confidence.LEAST_VALID", 12)
    monkeypatch.setattr("fastcell.explain.explanation.LEAST_VALID", 12)
    assert main([str(run), "--parts=calibration"]) == 0
    saved = json.loads((run / "temperature.json").read_text())
    told = json.loads((run / "explain" / "explain.json").read_text())["calibration"]
    assert saved["temperature"] == told["temperature"]
    opened = open_run(run)
    valid = part_outputs(opened, "valid")
    assert saved["num_cells"] == len(valid) == 12
    assert saved["temperature"] == fit_temperature(log_probabilities(valid.probabilities), valid.labels)


def test_the_temperature_is_that_of_predict(run, capsys):
    assert main([str(run), "--parts=calibration"]) == 0
    assert "no temperature, because it takes 50 validation cells, and there are 12" in capsys.readouterr().out
    assert not (run / "temperature.json").exists()
    path = run / "best.ckpt"
    answers = torch.ones(60), torch.ones(60, dtype=torch.bool)
    kept = {"temperature": 1.75, "confidence": answers[0], "right": answers[1], "groups": None}
    torch.save({**torch.load(path, weights_only=True), "fastcell_confidence": kept}, path)
    assert main([str(run), "--parts=calibration"]) == 0
    saved = json.loads((run / "temperature.json").read_text())
    assert (saved["temperature"], saved["num_cells"]) == (1.75, 60)
    told = json.loads((run / "explain" / "explain.json").read_text())["calibration"]
    outputs = part_outputs(open_run(run), "test")
    after = rescale(log_probabilities(outputs.probabilities), 1.75)[np.arange(16), outputs.labels]
    assert told["nll_after"] == pytest.approx(-np.log(after).mean())


def test_predictions_of_other_data_are_noticed(run, capsys):
    opened = open_run(run)
    outputs = part_outputs(opened, "test")
    called = np.array(CLASSES)[outputs.probabilities.argmax(axis=1)]
    keys = opened.manifest.column("key")[outputs.cell_ids]
    for changed in (0, 3):
        names = [CLASSES[CLASSES.index(name) ^ (place < changed)] for place, name in enumerate(called)]
        pq.write_table(pa.table({"key": keys.tolist(), "class": names}), run / "predictions.parquet")
        assert num_called_otherwise(opened, outputs) == changed
    assert main([str(run), "--parts=reject"]) == 0
    assert "the predicted class of 3 cells differs from predictions.parquet" in capsys.readouterr().out
    (run / "predictions.parquet").write_bytes(b"no table")
    assert num_called_otherwise(opened, outputs) == 0


def test_a_run_without_a_validation_part(run, made, tmp_path, capsys):
    cells = shutil.copytree(made / "cells", tmp_path / "cells")
    sides = Manifest.open(cells).split()
    write_split(cells, "default", np.where(sides == "valid", "train", sides))
    assert main([str(run), "--data.path", str(cells), "--parts=calibration", "--out", str(tmp_path / "new")]) == 0
    assert "no temperature, because there is no validation subset" in capsys.readouterr().out
    told = json.loads((tmp_path / "new" / "explain.json").read_text())
    assert "temperature" in told["left_out"]
    assert "temperature" not in told["calibration"]
    assert not (run / "temperature.json").exists()
    assert {row["curve"] for row in read(tmp_path / "new" / "calibration.csv")} == {"as trained"}


def test_a_run_without_a_test_part_is_looked_at_on_its_validation_part(run, made, tmp_path, capsys):
    cells = shutil.copytree(made / "cells", tmp_path / "cells")
    sides = Manifest.open(cells).split()
    write_split(cells, "default", np.where(sides == "test", "train", sides))
    assert main([str(run), "--data.path", str(cells), "--parts=reject,errors"]) == 0
    assert "12 validation cells" in capsys.readouterr().out


def test_what_a_network_has_not_is_left_out_and_said(run, monkeypatch, capsys):
    from fastcell.explain import explanation

    monkeypatch.setattr(explanation, "CellNet", type("Other", (), {}))
    monkeypatch.setattr(explanation, "find_taps", lambda network: [])
    assert main([str(run), "--parts=network,embedding,filters"]) == 0
    said = capsys.readouterr().out
    assert "network: left out, cellnet has too many layers for a drawing" in said
    assert "embedding: left out, cellnet has no fully connected layer" in said
    told = json.loads((run / "explain" / "explain.json").read_text())
    assert list(told["left_out"]) == ["network", "embedding"]
    assert list(told["captions"]) == ["filters"]


def test_a_data_set_of_other_classes(run, tmp_path):
    draw_cells(tmp_path / "source")
    (tmp_path / "source" / "plain").rename(tmp_path / "source" / "rings")
    assert pack([str(tmp_path / "source"), str(tmp_path / "other")]) == 0
    with pytest.raises(DataError, match="got also rings"):
        main([str(run), "--data.path", str(tmp_path / "other")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts=filters,roc"], "--parts must be one of network, filters, .* got 'roc'"),
        (["--cells=0"], "--cells must be at least 1, got 0"),
        (["--patch=17", "--parts=occlusion"], "patch must be from 1 to the image's side of 16"),
    ],
)
def test_arguments(run, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        main([str(run), *arguments])


def test_all_parts_are_in_the_help(capsys):
    assert main(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ",".join(EXPLANATION_PARTS) in said.replace(" ", "")
