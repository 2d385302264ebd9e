"""Scores of a student beside its teacher: on the cells and with the probabilities that the runs themselves give."""

import numpy as np
import pytest

import fastcell
from fastcell.runs.open_run import open_run
from fastcell.training.distillation.student_scores import score_student


def test_a_network_beside_itself_does_not_differ(trained_run):
    found = score_student(trained_run, trained_run / "last.ckpt", [("torch", "fp32")])
    run = open_run(trained_run)
    rows = run.rows("test")
    assert (found.part, found.num_cells) == ("test", len(rows))
    teacher, student = found.networks
    assert student.accuracy == teacher.accuracy
    assert student.difference is not None
    assert student.balanced_difference is not None
    assert student.difference.value == student.balanced_difference.value == 0
    assert student.difference.low < 0 < student.difference.high
    answers = fastcell.load(trained_run, backend="torch").predict(trained_run.parent.parent / "cells")
    right = answers.class_numbers[rows] == run.labels[rows]
    assert teacher.accuracy["value"] == pytest.approx(float(np.mean(right)))
    text = found.describe()
    assert text.count("cellnet, 32 px") == 2
    assert "torch fp32 minus teacher: accuracy +0.0 points (" in text
    assert found.to_json()["networks"][1]["difference"]["value"] == 0
