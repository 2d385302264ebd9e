"""Predictions that are killed go on, and end with the same bytes, on any number of ranks."""

import csv
import shutil

import pytest
from fixtures.stopped_runs import Killed, fit, launch, main, pack_cells

from fastcell.cli import main as cli
from fastcell.dataset.manifest import Manifest
from fastcell.models.lightning_module import CellModule
from fastcell.storage.staging import open_staging_of


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pack_cells(tmp_path_factory.mktemp("interrupted"))


@pytest.fixture(scope="module")
def checkpoint(data, tmp_path_factory):
    return fit(data, tmp_path_factory.mktemp("model"), "--trainer.max_epochs=1") / "best.ckpt"


def predict_command(checkpoint, data, out):
    return ["predict", f"--ckpt_path={checkpoint}", f"--data.path={data}", f"--out={out}", "--data.eval_batch_size=8"]


def test_a_killed_prediction_goes_on(data, checkpoint, tmp_path, monkeypatch, capsys):
    """Chunks of a part that was saved are not predicted again; a torn part counts as none."""
    assert main(predict_command(checkpoint, data, tmp_path / "whole.csv")) == 0
    predicted, step = [], CellModule.predict_step
    monkeypatch.setattr("fastcell.predictions.saved_parts.SAVE_EVERY_S", 0.0)

    def die_in_time(self, batch, batch_idx):
        predicted.append(batch.cell_ids.tolist())
        if len(predicted) in (7, 12):
            raise Killed
        return step(self, batch, batch_idx)

    monkeypatch.setattr(CellModule, "predict_step", die_in_time)
    command = predict_command(checkpoint, data, tmp_path / "p.csv")
    with pytest.raises(Killed):
        main(command)
    parts = sorted((tmp_path / ".p.csv.partial").glob("run-*/saved/*.saved"))
    assert len(parts) == 6
    parts[2].write_bytes(parts[2].read_bytes()[:-40])
    with pytest.raises(Killed):
        main(command)
    assert main(command) == 0
    assert "resuming: an interrupted run has finished" in capsys.readouterr().out
    chunks = [list(range(begin, min(begin + 8, 180))) for begin in range(0, 180, 8)]
    assert predicted[:7] == chunks[:7]
    assert predicted[7:12] == [chunks[2], *chunks[6:10]]
    assert [ids[: len(chunk)] for ids, chunk in zip(predicted[12:], chunks[9:], strict=True)] == chunks[9:]
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv", "whole.csv"]


@pytest.mark.parametrize("repaired", [True, False], ids=["repaired", "damaged otherwise"])
def test_a_prediction_tries_corrupt_cells_again(data, checkpoint, tmp_path, monkeypatch, repaired):
    """A shard is damaged, and repaired or lost between the stop and the rerun: the table is that of the data of now."""
    cells = shutil.copytree(data, tmp_path / "cells")
    manifest = Manifest.open(cells)
    shard = manifest.shard_path(1)
    whole = shard.read_bytes()
    hurt = bytearray(whole)
    for row in manifest.table.slice(44, 12).to_pylist():
        hurt[row["offset"] + 20] ^= 1
    shard.write_bytes(hurt)
    monkeypatch.setattr("fastcell.predictions.saved_parts.SAVE_EVERY_S", 0.0)
    steps, step = iter(range(100)), CellModule.predict_step

    def die_in_time(self, batch, batch_idx):
        if next(steps) == 10:
            raise Killed
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(CellModule, "predict_step", die_in_time)
        with pytest.raises(Killed):
            main(predict_command(checkpoint, cells, tmp_path / "p.csv"))
    if repaired:
        shard.write_bytes(whole)
    else:
        shard.unlink()
    assert main(predict_command(checkpoint, cells, tmp_path / "p.csv")) == 0
    assert main(predict_command(checkpoint, cells, tmp_path / "whole.csv")) == 0
    if repaired:
        assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
        assert "bytes" not in (tmp_path / "p.csv").read_text()
        return
    with open(tmp_path / "p.csv", newline="") as file:
        reasons = [row["reason"] for row in csv.DictReader(file)]
    assert reasons[:40] == [""] * 40
    assert set(reasons[40:80]) == {"", "the shard is missing"}  # those that were predicted before stay
    assert all(reason == "the shard is missing" for reason in reasons[44:56])


def test_two_predictions_of_one_file(data, checkpoint, tmp_path, capsys):
    with open_staging_of(tmp_path / "p.csv"):
        assert cli.main(predict_command(checkpoint, data, tmp_path / "p.csv")) == 2
    assert "which another run" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.slow
def test_every_cell_once_on_1_2_and_3_ranks(data, checkpoint, tmp_path):
    """180 cells in chunks of 8, 5 of them bad: predictions byte by byte, scores and mean loss."""
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    for cell in Manifest.open(damaged).table.to_pylist()[3:180:41]:
        with open(damaged / cell["shard"], "r+b") as file:
            file.seek(cell["offset"])
            file.write(bytes(cell["bytes"]))
    texts, losses = [], []
    for ranks in (1, 2, 3):
        command = predict_command(checkpoint, damaged, tmp_path / f"{ranks}.csv")
        process = launch([*command, f"--trainer.devices={ranks}"])
        assert process.wait(120) == 0
        process = launch(["validate", *command[1:3], "--data.eval_batch_size=8", f"--trainer.devices={ranks}"])
        text = process.communicate(timeout=120)[0]
        assert process.returncode == 0
        lines = [line for line in text.splitlines() if "cells/s" not in line and "mean loss" not in line]
        texts.append(lines)
        losses.append(float(text.partition("mean loss ")[2].split()[0]))
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes() == (tmp_path / "3.csv").read_bytes()
    assert (tmp_path / "1.csv").read_text().count("other bytes than were packed") == 5
    assert texts[0] == texts[1] == texts[2]
    assert max(losses) - min(losses) <= 1e-6 * max(losses)
