"""Settings in a run folder."""

import json

import pytest
import pytorch_lightning as pl
import torch

from fastcell.errors import DataError
from fastcell.storage.formats import FORMATS
from fastcell.training.run_record import (
    Resumption,
    RunRecord,
    is_finished,
    make_run_folder,
    resolved_settings,
    saved_settings,
    settings_of_checkpoint,
)
from fastcell.training.same_settings import Change
from fastcell.training.trainer import build_trainer

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    return make_run_folder(tmp_path / "runs", "cells", "gao", "trainer:\n  max_epochs: 2\nseed_everything: 0\n")


def read(folder):
    return json.loads((folder / "environment.json").read_text())


def test_a_new_run_says_what_its_settings_resolved_to(folder):
    assert read(folder)["format"] == FORMATS["run"].number
    trainer = build_trainer(CPU, precision="bf16-mixed")
    RunRecord(folder, "", None).on_train_start(trainer, pl.LightningModule())
    assert read(folder)["resolved"] == resolved_settings(trainer)
    assert resolved_settings(trainer)["precision"] == "bf16-mixed"
    assert saved_settings(folder) == {"trainer.max_epochs": 2, "seed_everything": 0}


def test_a_run_that_goes_on_dates_its_changes_and_drops_its_scores(folder):
    (folder / "metrics.json").write_text('{"epochs": 2}')
    (folder / "confusion.csv").touch()
    for number in (3, 4):
        resumption = Resumption("last.ckpt", [Change("trainer.max_epochs", number - 1, number)])
        text = f"trainer:\n  max_epochs: {number}\n"
        RunRecord(folder, text, resumption).on_train_start(build_trainer(CPU), pl.LightningModule())
    RunRecord(folder, "not used", Resumption("last.ckpt")).on_train_start(build_trainer(CPU), pl.LightningModule())
    lines = (folder / "config.yaml").read_text().splitlines()
    assert lines[1] == "  max_epochs: 4"
    assert [line.rpartition(" with ")[2] for line in lines[2:]] == [
        "trainer.max_epochs: 2 -> 3",
        "trainer.max_epochs: 3 -> 4",
    ]
    assert saved_settings(folder) == {"trainer.max_epochs": 4}
    changes = [item["changes"] for item in read(folder)["resumed"]]
    assert changes == [{"trainer.max_epochs": [2, 3]}, {"trainer.max_epochs": [3, 4]}, {}]
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "environment.json"]


def test_other_ranks_write_nothing(tmp_path):
    RunRecord(None, "", None).on_train_start(build_trainer(CPU), pl.LightningModule())
    assert not list(tmp_path.iterdir())


def test_a_run_is_finished_if_it_has_scores_and_is_not_to_be_longer(folder):
    assert not is_finished(folder, [])
    for text, expected in (("torn {", False), ("[]", False), ("{}", False), ('{"epochs": 2}', True)):
        (folder / "metrics.json").write_text(text)
        assert is_finished(folder, []) == expected
    assert is_finished(folder, [Change("data.threads", 1, 2)])
    for name in ("trainer.max_epochs", "trainer.max_steps"):
        assert not is_finished(folder, [Change(name, 1, 2)])


@pytest.mark.parametrize("text", ["a: [", "just text", "- 1", "\x00"])
def test_a_damaged_configuration_is_named(folder, text):
    (folder / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=r"config\.yaml is not a file written by fastcell fit"):
        saved_settings(folder)


def test_settings_of_an_old_checkpoint_are_those_of_model_and_data():
    content = {
        "hyper_parameters": {"learning_rate": 0.1, "classes": ["a"], "channels_last": True, "preprocessing": {}},
        "datamodule_hyper_parameters": {"batch_size": 8, "augmentation": {"scale": 1.0}, "path": "cells"},
        "CellDataModule": {"store": "bank"},
    }
    found = settings_of_checkpoint(content)
    assert found == ({"model.learning_rate": 0.1, "data.batch_size": 8}, {"data.store": "bank"})
    new = {"fastcell_settings": {"asked": {"model.loss": "mse"}, "resolved": {"data.store": "stream"}}}
    assert settings_of_checkpoint({**content, **new}) == ({"model.loss": "mse"}, {"data.store": "stream"})
