import csv

import numpy as np

from fastcell.runs.run_folder import create_run_folder, write_confusion
from fastcell.training.curve_logger import CurveLogger


def test_folders_are_never_taken_twice(tmp_path):
    folders = [create_run_folder(tmp_path / "runs", "demo") for _ in range(12)]
    assert len(set(folders)) == 12
    assert all(folder.is_dir() and folder.name[15:].startswith("-demo") for folder in folders)


def test_curves_have_one_row_per_step(tmp_path):
    logger = CurveLogger(tmp_path)
    logger.log_metrics({"train_loss": 2.0, "learning_rate": 0.1}, step=50)
    logger.log_metrics({"train_loss": 1.5}, step=80)
    assert not logger.path.exists()
    logger.log_metrics({"valid_loss": 1.0, "epoch": 0}, step=80)
    with logger.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["train_loss"], row["valid_loss"]) for row in rows] == [
        ("50", "2.0", ""),
        ("80", "1.5", "1.0"),
    ]
    logger.log_metrics({"train_loss": 1.0}, step=90)
    logger.finalize("success")
    assert len(logger.path.read_text().splitlines()) == 4


def test_confusion_table_names_both_axes(tmp_path):
    write_confusion(tmp_path / "confusion.csv", np.array([[5, 1], [2, 7]]), ["a", "b, c"])
    with (tmp_path / "confusion.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["true", "a", "b, c"], ["a", "5", "1"], ["b, c", "2", "7"]]
