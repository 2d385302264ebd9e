"""Finished runs are left alone; runs without a step are none; more epochs are as if asked for at once."""

import json
import re
import shutil

import pytest
import yaml
from fixtures.stopped_runs import CONSTANT, assert_same_run, contents, fit, fit_until, main, new_run

from fastcell.cli import main as cli


def test_a_finished_run_is_left_alone(long_run, capsys):
    before, changed = contents(long_run), long_run.stat().st_mtime_ns
    capsys.readouterr()
    for words in ([], ["--data.threads=2", "--trainer.max_epochs=3"]):
        assert main(["fit", f"--resume={long_run}", *words]) == 0
        following = "".join(f"next: fastcell {name} {long_run}\n" for name in ("report", "explain"))
        assert capsys.readouterr().out == f"{long_run} is finished, nothing to do.\n{following}"
    assert contents(long_run) == before
    assert long_run.stat().st_mtime_ns == changed


def test_points_of_a_finished_run_that_was_killed_are_removed(long_run, tmp_path):
    """Killed between its last score and the removal of its points."""
    folder = shutil.copytree(long_run, tmp_path / "run")
    shutil.copy(folder / "last.ckpt", folder / "step-000000001.ckpt")
    assert main(["fit", f"--resume={folder}"]) == 0
    assert contents(folder) == contents(long_run)


def test_more_epochs_of_a_finished_run(data, long_run, tmp_path, monkeypatch):
    """As if they had been asked for at once, also where the longer run is killed; the configuration describes it."""
    whole = fit(data, tmp_path / "whole", *CONSTANT, "--trainer.max_epochs=5")
    folder = shutil.copytree(long_run, tmp_path / "runs" / "run")
    words = ["fit", f"--resume={folder}", "--trainer.max_epochs=5", "--data.threads=2"]
    fit_until(monkeypatch, 14, words, folder.parent)
    assert not (folder / "metrics.json").exists()  # those scores are of another run now
    assert main(["fit", f"--resume={folder}"]) == 0
    assert_same_run(folder, whole)
    ours, theirs = (json.loads((path / "metrics.json").read_text()) for path in (folder, whole))
    assert {name: ours[name] for name in ("epochs", "steps", "test")} == {
        name: theirs[name] for name in ("epochs", "steps", "test")
    }
    text = (folder / "config.yaml").read_text()
    settings, asked = yaml.safe_load(text), yaml.safe_load((whole / "config.yaml").read_text())
    assert settings == {**asked, "runs": settings["runs"], "data": {**asked["data"], "threads": 2}}
    assert re.search(r"# went on 20\d\d-\d\d-\d\d .* with trainer.max_epochs: 3 -> 5\n", text)
    assert re.search(r"# went on .* with data.threads: 1 -> 2\n", text)
    once, again = json.loads((folder / "environment.json").read_text())["resumed"]
    assert once["changes"] == {"trainer.max_epochs": [3, 5], "data.threads": [1, 2]}
    assert (once["step"], once["resolved"]["threads"], again["changes"]) == (30, 2, {})


@pytest.mark.parametrize("limit", ["max_epochs=0", "max_steps=0", "limit_train_batches=0", "max_time=00:00:00:00"])
def test_a_run_that_trains_nothing_is_no_run(data, tmp_path, capsys, limit):
    assert cli.main([*new_run(data, tmp_path / "runs"), f"--trainer.{limit}"]) == 2
    assert re.search("othing (would be|was) trained", capsys.readouterr().err)
    assert not list((tmp_path / "runs").glob("*"))


def test_a_checkpoint_that_has_all_steps_is_no_new_run(data, long_run, tmp_path, capsys):
    words = ["fit", f"--config={long_run / 'config.yaml'}", f"--runs={tmp_path / 'runs'}"]
    assert cli.main([*words, f"--ckpt_path={long_run / 'last.ckpt'}"]) == 2
    assert (
        f"nothing was trained, so there is nothing to score. {long_run / 'last.ckpt'} has 30" in capsys.readouterr().err
    )
    assert not list((tmp_path / "runs").glob("*"))
    assert cli.main([*words, f"--ckpt_path={long_run / 'last.ckpt'}", "--model.learning_rate=1"]) == 2
    assert "--model.learning_rate of a resumed run must be 0.002" in capsys.readouterr().err
