"""The folder that a training run leaves behind, complete and never overwritten.

::

    runs/20260131-142501-demo/
      config.yaml           every setting, resolved; `fastcell fit --config` repeats the run
      environment.json      machine, versions
      metrics.csv           loss and accuracy by step (curves.png and .pdf draw it)
      metrics.json          scores of the test part with intervals, throughput
      confusion.csv, .png, .pdf   of the test part, rows = true class
      predictions.parquet   of the test part, one row per cell
      losses.csv            cells that went bad since they were packed; only where there are any
      best.ckpt, last.ckpt  checkpoints
      step-*.ckpt           points to go on from, while the run goes on
"""

from __future__ import annotations

import csv
import datetime
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from fastcell.data.manifest import replace_file
from fastcell.models.checkpoint import read_checkpoint

COLUMNS = ("step", "epoch", "learning_rate", "train_loss", "train_accuracy")


def create_run_folder(root: Path, name: str) -> Path:
    """Makes `root`/<YYYYmmdd-HHMMSS>-`name`, with -2, -3, ... behind it where that is taken."""
    root.mkdir(parents=True, exist_ok=True)
    stem = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{name}"
    number = 1
    while True:
        folder = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def write_text(path: Path, text: str) -> None:
    """Writes a small file, whole or not at all."""
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes plain values as JSON, whole or not at all."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def write_confusion(path: Path, confusion: np.ndarray, classes: list[str]) -> None:
    """Writes a confusion matrix (K, K) int64 as CSV: a row per true class, a column per predicted class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, confusion.tolist(), strict=True))
    write_text(path, text.getvalue())


class CurveLogger(Logger):
    """Keeps what a run logs, one row per step, and writes it as metrics.csv; empty where nothing was logged.

    Args:
        folder: the run folder.
        point: checkpoint that the run goes on from; rows of later steps are forgotten.
    """

    def __init__(self, folder: Path, point: str | None = None) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self.rows: dict[int, dict[str, float]] = {}
        if point is not None and Path(point).parent == folder:
            self._load(int(read_checkpoint(point)["global_step"]))

    def _load(self, last_step: int) -> None:
        if not self.path.exists():
            return
        with open(self.path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                step = int(row.pop("step"))
                if step <= last_step:
                    self.rows[step] = {
                        name: int(value) if name == "epoch" else float(value) for name, value in row.items() if value
                    }

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.setdefault(int(step or 0), {}).update(metrics)
        if "valid_loss" in metrics:  # rare enough to keep the file up to date while the run goes on
            self.save()

    @rank_zero_only
    def save(self) -> None:
        columns = list(dict.fromkeys([*COLUMNS, *(name for row in self.rows.values() for name in row)]))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"step": step, **row} for step, row in sorted(self.rows.items()))
        write_text(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
