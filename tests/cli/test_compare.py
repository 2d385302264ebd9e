"""The command, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fastcell.cli import compare
from fastcell.cli import main as cli
from fastcell.cli.parser import parse_words
from fastcell.cli.signature import read_command
from fastcell.compare.run_study import StudyOptions


def run(*arguments):
    return cli.main(["compare", *map(str, arguments)])


SMALL = ("--methods", "svm,knn", "--volumes", "0.5,1", "--seeds", "2", "--data.image_size", "16", "--pca", "8")


def test_report_tables_and_figures(planted, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(planted().path, *SMALL, "--splits", "default", "--out", out) == 0
    text = capsys.readouterr().out
    assert "kNN, 72 training cells, default, seed 1: test accuracy 1.000" in text
    report = (out / "report.md").read_text()
    assert report.startswith("# planted: study of volume\n")
    assert "| kNN | test | 1.000 ± 0.000" in report
    assert sorted(path.name for path in out.iterdir()) == [
        "accuracy.csv",
        "accuracy_by_volume-default.csv",
        "accuracy_by_volume-default.pdf",
        "accuracy_by_volume-default.png",
        "cells",
        "classes.csv",
        "differences.csv",
        "report.md",
        "study.json",
    ]
    assert len(list((out / "cells").iterdir())) == 8
    study = json.loads((out / "study.json").read_text())
    assert study["recipe"]["data"]["image_size"] == 16
    assert study["schemes"]["default"]["splits"] == ["default"]
    assert run(planted(folder="same").path, *SMALL, "--splits", "default", "--out", out) == 0
    assert "8 of 8 tasks are finished, 0 remain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "forest"], "--methods must be among cnn, gao, svm, knn, frame, or names of networks"),
        (["--volumes", "2"], "--volumes must be shares of the training cells in (0, 1]"),
        (["--seeds", "0"], "--seeds must be 1 or more, got 0."),
        (["--pca", "many"], "--pca must be a number of components, or none, got 'many'."),
        (["--sizes", "4"], "--sizes must be sides from 8 to 1024 pixels"),
        (["--splits", "folds"], "--splits must be a scheme of the data set: it has no folds"),
        (["--study", "leakage", "--splits", "default"], "--splits must be absent with --study leakage"),
        (["--study", "leakage", "--folds", "1"], "--folds must be 2 or more, got 1."),
        (["--backend", "abacus"], "backend must be one of auto, cuml, sklearnex, sklearn"),
        (["--preset", "slow"], "--preset must be one of demo, paper, fast, thorough"),
        (["--data.nothing", "1"], "arguments must be those of compare"),
        (["--volumes", "0.01", "--splits", "default"], "--volumes must leave 5 training cells in two or more classes"),
    ],
)
def test_refusals(planted, tmp_path, capsys, arguments, message):
    assert run(planted().path, "--out", tmp_path / "out", *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("fastcell: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_defaults_are_those_of_a_study():
    options = parse_words(read_command(compare.compare), [])
    assert options.pop("data") is None
    assert options.pop("out") == "comparison"
    assert options.pop("changes") == []
    assert StudyOptions(**options) == StudyOptions()
    assert list(options) == list(vars(StudyOptions()))  # the order in study.json


def test_no_pca_is_refused_above_3000_cells(planted, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fastcell.compare.runner.MAX_CELLS_WITHOUT_PCA", 50)
    out = tmp_path / "out"
    common = ("--methods", "knn", "--splits", "default", "--data.image_size", "16", "--seeds", "1", "--pca", "none")
    assert run(planted().path, *common, "--volumes", "0.5,1", "--out", out) == 0
    assert (
        "- kNN is left out at volume 1: 72 training cells, at most 50 with --pca none"
        in (out / "report.md").read_text()
    )
    assert run(planted(folder="b").path, *common, "--volumes", "1", "--out", out) == 2
    assert "--methods must leave at least one task" in capsys.readouterr().err


def test_no_data_no_labels_no_folder(planted, tmp_path, capsys):
    assert run(tmp_path / "nothing", "--out", tmp_path / "out") == 2
    assert "is not a packed data set" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(planted().path, "--out", tmp_path / "file", "--methods", "knn") == 2
    assert "--out must be a folder" in capsys.readouterr().err


def test_two_runs_in_one_folder(planted, tmp_path, capsys):
    from fastcell.storage.locks import hold_run_folder

    path, out = planted().path, tmp_path / "out"
    out.mkdir()
    with hold_run_folder(out, "--out"):
        assert run(path, *SMALL, "--splits", "default", "--out", out) == 2
    assert "--out must be a run that has stopped" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_goes_on(planted, tmp_path, number, status):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "fastcell", "compare", str(planted().path), "--out", str(out)]
    command += ["--methods", "knn,cnn", "--volumes", "1", "--seeds", "3", "--splits", "default"]
    command += ["--data.image_size", "16", "--min-steps", "100", "--trainer.max_epochs", "60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as child:
        deadline = time.monotonic() + 120
        while not list(out.glob("cells/cnn-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(child.pid, number)
        _, err = child.communicate(timeout=60)
    assert child.returncode == status, err
    assert "Traceback" not in err
    before = {path: path.read_bytes() for path in (out / "cells").iterdir()}
    assert 3 < len(before) < 6
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} of 6 tasks are finished" in done.stdout
    assert len(list((out / "cells").iterdir())) == 6
    assert {path: path.read_bytes() for path in before} == before
