"""Three losses on the same cells, each training done once."""

import csv

import pytest

from fastcell.compare import loss_study
from fastcell.compare.loss_study import run_losses


def test_losses_by_iteration(planted, study_of, monkeypatch):
    study = study_of(planted())
    lines = run_losses(study, 2, 30)
    with open(study.out_dir / "accuracy_by_iteration.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["loss"] for row in rows} == {"softmax cross entropy", "squared error", "sigmoid cross entropy"}
    valid = [row for row in rows if row["measure"] == "valid_accuracy"]
    assert sorted({int(row["iteration"]) for row in valid}) == list(range(1, 31))
    assert len(valid) == 3 * 2 * 30
    last = [float(row["value"]) for row in valid if row["iteration"] == "30" and row["loss"] == "softmax cross entropy"]
    assert min(last) > 0.9
    first = next(line for line in lines if line.startswith("| softmax cross entropy |"))
    assert first.split(" | ")[1].isdecimal()

    def never(*arguments):
        pytest.fail("a finished training is not repeated")

    monkeypatch.setattr(loss_study, "train_network", never)
    before = (study.out_dir / "accuracy_by_iteration.pdf").read_bytes()
    assert run_losses(study, 2, 30) == lines
    assert (study.out_dir / "accuracy_by_iteration.pdf").read_bytes() == before
