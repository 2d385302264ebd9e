import csv

import torch

from fastcell.models.lightning_module import CHECKPOINT_FORMAT
from fastcell.runs.run_folder import CURVE_COLUMNS
from fastcell.training.curve_logger import CurveLogger


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


def test_a_run_that_goes_on_keeps_the_rows_up_to_its_point(tmp_path):
    before = CurveLogger(tmp_path)
    before.log_metrics({"train_loss": 2.0, "epoch": 0}, step=10)
    before.log_metrics({"train_loss": 1.5, "epoch": 1, "own": 0.25}, step=20)
    before.log_metrics({"train_loss": 1.0, "epoch": 2}, step=30)
    before.save()
    point = tmp_path / "last.ckpt"
    marks = {"fastcell_format": CHECKPOINT_FORMAT, "state_dict": {}, "hyper_parameters": {}}
    torch.save({**marks, "global_step": 20}, point)
    after = CurveLogger(tmp_path, str(point))
    assert after.rows == {10: {"train_loss": 2.0, "epoch": 0}, 20: {"train_loss": 1.5, "epoch": 1, "own": 0.25}}
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    assert CurveLogger(elsewhere, str(point)).rows == {}  # the point is of another run


def test_the_curve_is_in_the_point(tmp_path):
    """The file may be lost, damaged or of another run."""
    rows = {10: {"train_loss": 2.0, "epoch": 0}}
    marks = {"fastcell_format": CHECKPOINT_FORMAT, "state_dict": {}, "hyper_parameters": {}, "global_step": 20}
    torch.save({**marks, "fastcell_curve": rows}, tmp_path / "last.ckpt")
    (tmp_path / "metrics.csv").write_text("step,train_loss\nx,y\n")
    assert CurveLogger(tmp_path, str(tmp_path / "last.ckpt")).rows == rows


def test_the_file_has_its_columns_without_any_row(tmp_path):
    CurveLogger(tmp_path).finalize("success")
    assert (tmp_path / "metrics.csv").read_text() == ",".join(CURVE_COLUMNS) + "\n"
