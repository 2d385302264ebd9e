"""A run folder in which a file is missing: every command does without it or says in one line what it needs."""

import shutil

import pytest

import fastcell
from fastcell.cli.main import main
from fastcell.errors import FastcellError


def files_of(run):
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


COMMANDS = {
    "report": ["report", "RUN", "--cells", "5", "--no-explain", "--out", "OUT.html"],
    "explain": ["explain", "RUN", "--parts", "calibration", "--out", "OUT"],
    "count": ["count", "TABLE", "RUN"],
    "audit": ["audit", "DATA", "RUN", "--permutations", "20", "--cells", "60", "--jobs", "1", "--out", "OUT"],
    "export": ["export", "RUN", "OUT.onnx", "--check", "3"],
    "predict": ["predict", "RUN", "DATA", "--out", "OUT.csv"],
    "test": ["test", "RUN"],
}


CORE = ["best.ckpt", "config.yaml", "environment.json", "last.ckpt", "metrics.json"]
"""Files that a command may read that needs the network alone."""


def cases(command, run):
    """Files that are missing: each alone; for commands of the network, all that is no core together."""
    names = files_of(run)
    if command not in ("export", "predict", "test"):
        return [[name] for name in names]
    return [*([name] for name in CORE if name in names), [name for name in names if name not in CORE]]


@pytest.fixture(scope="module")
def table(trained_run, trained_data, tmp_path_factory):
    """Table of predictions of the run."""
    path = tmp_path_factory.mktemp("table") / "p.parquet"
    assert main(["predict", str(trained_run), str(trained_data), "--out", str(path)]) == 0
    return path


def check(words, what, capsys):
    """Run a command: no traceback; status 0, or 2 with one line."""
    capsys.readouterr()
    status = main(words)
    err = capsys.readouterr().err
    assert status == 0 or (status == 2 and err.splitlines()[-1].startswith("fastcell: error: ")), (what, err)
    assert "Traceback" not in err, what
    return status


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", COMMANDS)
def test_each_file_of_a_run_may_be_missing(command, trained_run, trained_data, table, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    places = {"RUN": run, "TABLE": table, "DATA": trained_data}
    for names in cases(command, trained_run):
        shutil.copytree(trained_run, run)
        for name in names:
            (run / name).unlink()
        words = [str(places.get(word, word)).replace("OUT", str(out)) for word in COMMANDS[command]]
        check(words, ", ".join(names), capsys)
        shutil.rmtree(run)
        for path in tmp_path.glob("out*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_file_of_a_comparison_may_be_missing(trained_data, tmp_path, capsys):
    """The report of a study, and the study that is run again on its own folder."""
    methods = ["--methods", "knn", "--volumes", "1", "--seeds", "1", "--jobs", "1", "--splits", "default"]
    assert main(["compare", str(trained_data), "--out", str(tmp_path / "whole"), *methods]) == 0
    study = tmp_path / "study"
    for name in files_of(tmp_path / "whole"):
        shutil.copytree(tmp_path / "whole", study)
        (study / name).unlink()
        check(["report", str(study), "--out", str(tmp_path / "page.html")], name, capsys)
        assert check(["compare", str(trained_data), "--out", str(study), *methods], name, capsys) == 0
        assert files_of(study) == files_of(tmp_path / "whole"), name
        shutil.rmtree(study)


def test_a_classifier_of_a_run_that_lacks_a_file(trained_run, tmp_path):
    """`fastcell.load` needs a checkpoint alone."""
    classes = fastcell.load(trained_run).classes
    for number, name in enumerate(files_of(trained_run)):
        run = shutil.copytree(trained_run, tmp_path / str(number))
        (run / name).unlink()
        assert fastcell.load(run).classes == classes, name
    for path in run.glob("*.ckpt"):
        path.unlink()
    with pytest.raises(FastcellError, match="run folder with a checkpoint"):
        fastcell.load(run)
