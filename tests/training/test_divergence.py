"""Training that diverges stops with the step and a hint, on all ranks; a network that is no network is not scored."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fastcell
from fastcell.cli.main import main

SMALL = ["--preset=fast", "--data.image_size=16", "--data.threads=1", "--trainer.max_steps=60"]
DIVERGE = [*SMALL, "--trainer.max_epochs=-1", "--model.learning_rate=1e30", "--model.schedule=constant"]


def test_a_loss_that_is_not_finite_ends_training(trained_data, tmp_path, capsys):
    assert main(["fit", str(trained_data), f"--out={tmp_path / 'runs'}", *DIVERGE]) == 2
    err = capsys.readouterr().err
    assert re.search(
        r"error: the (training|validation) loss must be finite, got (nan|inf) .*step \d+: training has diverged\. "
        r"Train anew with a smaller learning_rate",
        err,
    )
    assert "Traceback" not in err
    assert not list((tmp_path / "runs").glob("*/metrics.json"))


@pytest.mark.slow
def test_all_ranks_stop_alike(trained_data, tmp_path):
    environment = dict(os.environ, PYTHONPATH=str(Path(fastcell.__file__).parents[1]))
    command = [sys.executable, "-m", "fastcell", "fit", trained_data, f"--out={tmp_path / 'runs'}", *DIVERGE]
    command += ["--trainer.strategy=ddp", "--trainer.devices=2", "--trainer.accelerator=cpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("training has diverged") == 1, done.stderr  # rank 0 speaks for all
    assert done.stderr.count("fastcell: error:") == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_network_of_nan_is_not_scored_and_its_cells_have_a_reason(trained_run, trained_data, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    for path in run.glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        content["state_dict"] = {
            name: value * float("nan") if value.is_floating_point() and "weight" in name else value
            for name, value in content["state_dict"].items()
        }
        torch.save(content, path)
    assert main(["test", str(run), str(trained_data)]) == 2
    assert "gives no finite probability on the test subset: training has diverged" in capsys.readouterr().err
    assert main(["predict", str(run), str(trained_data), "--out", str(tmp_path / "p.csv")]) == 0
    out = capsys.readouterr().out
    assert "cells without a class, because the network gives them no finite probability: 200" in out
    assert (tmp_path / "p.csv").read_text().count("the network gives it no finite probability") == 200
    assert main(["count", str(tmp_path / "p.csv"), str(trained_run)]) == 2
    assert "200 cells without a prediction are not counted" in capsys.readouterr().err
    for command in ("explain", "report"):
        assert main([command, str(run)]) == 2
        assert "are not finite: training has diverged" in capsys.readouterr().err
