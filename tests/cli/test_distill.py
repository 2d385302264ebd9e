"""``fastcell distill``: the run that it leaves is an ordinary one, and holds the scores beside the teacher's."""

import json

import pytest

from fastcell.cli import distill_from_python
from fastcell.cli.distill import _settings
from fastcell.cli.main import main
from fastcell.errors import ArgumentError
from fastcell.training.distillation.candidates import TimedCandidate


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--trainer.max_epochs", "2"), {"trainer.max_epochs": "2"}),
        (("--data.batch_size=8", "--model.init", "torch"), {"data.batch_size": "8", "model.init": "torch"}),
        ((), {}),
    ],
)
def test_options_of_fit_are_passed_on(words, found):
    assert _settings(words) == found


@pytest.mark.parametrize("words", [("--optimizer.lr", "1"), ("--trainer.max_epochs",)])
def test_other_options_are_refused(words):
    with pytest.raises(ArgumentError):
        _settings(words)


@pytest.mark.slow
def test_a_student_is_trained_compared_and_used(trained_run, trained_data, tmp_path, capsys):
    words = ["--trainer.max_epochs", "2", "--data.threads=1", "--data.image_size", "32", "--allow-absent"]
    assert main(["distill", str(trained_run), "--budget", "1ms", "--out", str(tmp_path / "runs"), *words]) == 0
    out = capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    content = json.loads((run / "distillation.json").read_text())
    assert [one["name"] for one in content["networks"]] == ["teacher", "student", "student"]
    assert content["budget_us"] == 1000
    times = {one["network"]: one["us_per_cell"] for one in content["candidates"]}
    assert set(times) == {"student-small", "student", "student-wide"}
    slowest = max(times, key=lambda name: times[name])
    assert f"budget 1000 us: {slowest} at 32 px" in out
    assert f"{content['num_cells']} cells" in out
    assert out.splitlines()[-1].startswith(f"next: fastcell predict {run} {trained_data} ")
    table = tmp_path / "p.parquet"
    assert main(["predict", str(run), str(trained_data), "-o", str(table), "--backend", "openvino"]) == 0
    assert main(["report", str(run)]) == 0
    assert main(["export", str(run), str(tmp_path / "n.onnx")]) == 0


def test_a_split_without_valid_scores_is_refused_before_anything_is_timed(trained_run, planted, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        distill_from_python, "time_candidates", lambda *_: [TimedCandidate("gao", 24, "torch", "fp32", 1.0)]
    )
    monkeypatch.setattr(distill_from_python, "run_with_lightning", lambda name, words: asked.append(words))
    data = planted(30, groups=0, names=["left"] * 24 + ["right"] * 6)  # the test subset has no cell of the class right
    assert main(["distill", str(trained_run), str(data.path)]) == 2
    found = capsys.readouterr()
    assert "no cell of class right" in found.err
    assert "--allow-absent continues" in found.err
    assert (found.out, asked) == ("", [])
    with pytest.raises(AssertionError):  # no run folder comes back from the replaced training
        main(["distill", str(trained_run), str(data.path), "--allow-absent"])
    assert "--allow_absent=true" in asked[0]


def test_wrong_options_are_refused_before_anything_is_timed(trained_run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for words, message in (
        (["--budget", "soon"], "--budget must be a time a cell"),
        (["--share", "0"], "--share must be above 0"),
        (["--temperature", "0"], "--temperature must be above 0"),
        (["--out", str(tmp_path / "file")], "--out must be a folder"),
    ):
        assert main(["distill", str(trained_run), "--out", str(tmp_path / "runs"), *words]) == 2
        assert message in capsys.readouterr().err
    assert main(["distill", str(trained_run), str(tmp_path), "--out", str(tmp_path / "runs")]) == 2
    found = capsys.readouterr()
    assert "is not a packed data set" in found.err
    assert "time of a cell" not in found.out
    assert not (tmp_path / "runs").exists()
