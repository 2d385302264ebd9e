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
from pathlib import Path

import numpy as np

from fastcell.storage.whole_files import write_text

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


def write_confusion(path: Path, confusion: np.ndarray, classes: list[str]) -> None:
    """Writes a confusion matrix (K, K) int64 as CSV: a row per true class, a column per predicted class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, confusion.tolist(), strict=True))
    write_text(path, text.getvalue())
