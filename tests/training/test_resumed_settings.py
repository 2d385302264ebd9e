"""A run that goes on has the data and the settings of the run, or is refused by name."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fixtures.stopped_runs import contents, fit_until, new_run

from fastcell.cli import main as cli
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.split_table import write_split
from fastcell.storage.formats import FORMATS
from fastcell.storage.locks import hold_run_folder


def test_what_resume_refuses(data, tmp_path, monkeypatch, capsys):
    folder = fit_until(monkeypatch, 19, new_run(data, tmp_path / "runs"), tmp_path / "runs")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for arguments, message in (
        ([f"--resume={tmp_path}"], "--resume must be the folder of a training run"),
        (
            [f"--resume={folder}", "--data.batch_size=24"],
            "--data.batch_size of a resumed run must be 12 as in the run, got 24",
        ),
        (
            [f"--resume={folder}", "--data.seed=8"],
            "--data.seed of a resumed run must be null as in the run, got 8",
        ),
        (
            [f"--resume={folder}", "--data.subsample=100"],
            "--data.subsample of a resumed run must be null as in the run, got 100",
        ),
        ([f"--resume={folder}", "--checkpoint_every_steps=0"], "checkpoint_every_steps must be above 0"),
    ):
        assert cli.main(["fit", *arguments]) == 2
        assert message in capsys.readouterr().err
    with hold_run_folder(folder):
        assert cli.main(["fit", f"--resume={folder}"]) == 2
    assert "Wait for the process that trains in it" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_other_settings_are_refused_by_name(long_run, capsys):
    before = contents(long_run)
    for name, value in {
        "data.normalization": "divide",
        "data.image_size": 32,
        "data.augmentation.rotation_deg": 20.0,
        "data.balance": "oversample",
        "data.store": "stream",
        "data.split_name": "other",
        "model.network": "gao",
        "model.loss": "mse",
        "model.learning_rate": 0.5,
        "model.optimizer": "adam",
        "model.schedule": "cosine",
        "trainer.precision": "bf16-mixed",
        "trainer.max_epochs": 2,
        "seed_everything": 4,
        "select": "last",
    }.items():
        assert cli.main(["fit", f"--resume={long_run}", f"--{name}={value}"]) == 2
        message = capsys.readouterr().err
        assert f"--{name} of a resumed run must be " in message
        assert f"got {value}" in message
        assert message.count("\n") <= 2
    assert contents(long_run) == before


def test_a_configuration_that_was_edited_is_none_of_the_run(data, tmp_path, monkeypatch, capsys):
    folder = fit_until(monkeypatch, 15, new_run(data, tmp_path / "runs"), tmp_path / "runs")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("learning_rate: 0.002", "learning_rate: 0.2"))
    assert cli.main(["fit", f"--resume={folder}"]) == 2
    assert "--model.learning_rate of a resumed run must be 0.002 as in the run, got 0.2" in capsys.readouterr().err
    (folder / "config.yaml").write_text("[")
    assert cli.main(["fit", f"--resume={folder}"]) == 2
    assert "is not valid YAML" in capsys.readouterr().err


def permute_labels(data):
    table = pq.read_table(data / "manifest.parquet")
    place = table.schema.get_field_index("class")
    labels = table.column("class").to_pylist()
    pq.write_table(table.set_column(place, "class", pa.array(labels[1:] + labels[:1])), data / "manifest.parquet")


def move_validation_to_test(data):
    manifest = Manifest.open(data)
    subsets = manifest.split()
    valid = np.flatnonzero(subsets == "valid")
    subsets[valid[::2]] = "test"
    write_split(data, "default", subsets)


def drop_a_test_cell(data):
    (cell, *_) = np.flatnonzero(Manifest.open(data).split() == "test")
    (data / "verdicts.csv").write_text(f"cell_id,verdict\n{cell},drop\n")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (permute_labels, "training cells and labels"),
        (move_validation_to_test, "validation cells and labels"),
        (drop_a_test_cell, "test cells and labels"),
    ],
)
def test_other_data_are_refused_by_name(data, long_run, tmp_path, capsys, change, named):
    folder, other = shutil.copytree(long_run, tmp_path / "run"), shutil.copytree(data, tmp_path / "cells")
    change(other)
    before = contents(folder)
    assert cli.main(["fit", f"--resume={folder}", f"--data.path={other}", "--trainer.max_epochs=4"]) == 2
    assert f"{named} of a resumed run must be as before" in capsys.readouterr().err
    assert contents(folder) == before


def test_the_configuration_is_what_was_asked(long_run):
    """What it resolved to stands in environment.json: without a terminal there is no bar, but it was not refused."""
    trainer = yaml.safe_load((long_run / "config.yaml").read_text())["trainer"]
    names = ("accelerator", "precision", "deterministic", "enable_progress_bar", "devices")
    assert [trainer[name] for name in names] == ["auto", None, None, None, "auto"]
    found = json.loads((long_run / "environment.json").read_text())
    assert found["format"] == FORMATS["run"].number
    assert found["resolved"] == {
        "accelerator": "cpu",
        "devices": 1,
        "strategy": "SingleDeviceStrategy",
        "precision": "32-true",
        "deterministic": True,
        "progress": "EpochLines",
        "store": "bank",
        "memory": "host",
        "num_parts": 1,
        "transform": "fused",
        "decoder": "threads",
        "threads": 1,
        "balance": "none",
    }


def test_a_run_of_a_newer_version_is_refused(data, long_run, tmp_path, capsys):
    folder = shutil.copytree(long_run, tmp_path / "run")
    values = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**values, "format": 9, "fastcell": "4.5"}))
    for command in (["fit", f"--resume={folder}"], ["test", str(folder)], ["explain", str(folder)]):
        assert cli.main(command) == 2
        assert "run format must be 1 to 2, got 9. Install fastcell 4.5 or a later version" in capsys.readouterr().err
