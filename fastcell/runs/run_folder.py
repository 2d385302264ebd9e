"""The folder of a training run, which is never overwritten, such as ``runs/20260131-142501-donors-cellnet``.

`RUN_FILES` lists its content. Writers and readers take the file names from this module.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from contextlib import suppress
from pathlib import Path

import numpy as np

from fastcell.errors import DataError
from fastcell.runs.shared_model import SHARED_WEIGHTS_FILE
from fastcell.storage.formats import check_format
from fastcell.storage.places import check_output_folder, local_path
from fastcell.storage.whole_files import read_json_file, write_text

CONFIG_FILE = "config.yaml"
ENVIRONMENT_FILE = "environment.json"
CURVE_FILE = "metrics.csv"
METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.parquet"
CORRUPT_CELLS_FILE = "losses.csv"
DISTILLATION_FILE = "distillation.json"
BEST_FILE, LAST_FILE = "best.ckpt", "last.ckpt"
CONFUSION_STEM, CURVE_STEM = "confusion", "curves"

RUN_FILES = {
    CONFIG_FILE: "settings as given by the user; `fastcell fit --config` repeats the run",
    ENVIRONMENT_FILE: "machine, versions, resolved settings, and when and how the run resumed",
    CURVE_FILE: "loss and accuracy by step",
    f"{CURVE_STEM}.png, .pdf": "loss and accuracy as a figure",
    METRICS_FILE: "scores of the test subset with intervals, throughput",
    f"{CONFUSION_STEM}.csv, .png, .pdf": "confusion matrix of the test subset, rows = true class",
    PREDICTIONS_FILE: "predictions for the test subset, one row per cell",
    CORRUPT_CELLS_FILE: "corrupt cells; only if there are any",
    BEST_FILE: "weights with the lowest validation loss; only if there is a validation subset",
    LAST_FILE: "weights of the last step, and the state that training needs to resume",
    DISTILLATION_FILE: "scores beside those of the teacher; only of `fastcell distill`",
    "backends": "network as files of other programs, and the choice among them; see `fastcell predict --backend`",
    "step-*.ckpt": "resume points; removed when the run ends",
}
"""Content of a finished run: file name to description."""

_DATE_FORMAT = "%Y%m%d-%H%M%S"
_DATE = re.compile(r"\d{8}-\d{6}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._]+")
_MOST_LETTERS = 40

CURVE_COLUMNS = ("step", "epoch", "learning_rate", "train_loss", "train_accuracy")


RESULT_FILES = (
    METRICS_FILE,
    PREDICTIONS_FILE,
    CORRUPT_CELLS_FILE,
    DISTILLATION_FILE,
    *(f"{stem}.{ending}" for stem in (CONFUSION_STEM, CURVE_STEM) for ending in ("csv", "png", "pdf")),
)
"""Files that describe a finished run. A resumed run removes them and writes them again at its end."""


def check_run_format(folder: Path) -> None:
    """Check that this version can read a run folder. A folder without environment.json is assumed to be readable.

    Raises:
        DataError: a newer version wrote it.
    """
    environment = read_json_file(folder / ENVIRONMENT_FILE)
    if isinstance(environment, dict):
        check_format("run", environment.get("format"), folder, environment.get("fastcell"))


def create_run_folder(root: Path, data_name: str, network: str) -> Path:
    """Create a run folder named by date, data set and network, with -2, -3, ... appended if it exists.

    Args:
        root: folder of the runs; created if it does not exist.
        data_name: name of the data set; letters that a shell or a file system may refuse become ``-``.
        network: name of the network.

    Returns:
        E.g. ``root/20260131-142501-donors-cellnet``.
    """
    check_output_folder("--out", root, parents=True).mkdir(parents=True, exist_ok=True)
    words = [_NOT_IN_NAMES.sub("-", text)[:_MOST_LETTERS].strip("-.") for text in (data_name, network)]
    stem = "-".join([f"{datetime.datetime.now():{_DATE_FORMAT}}", *filter(None, words)])
    number = 1
    while True:
        folder = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def run_title(folder: Path, data_name: str, network: str) -> str:
    """Return the title of a run, e.g. ``donors, cellnet, 2026-01-31 14:25``.

    Args:
        folder: the run folder. Its name begins with the date. For a renamed folder the date is read from
            environment.json or, in older versions, is that of the last change of config.yaml.
        data_name: name of the data set.
        network: name of the network.
    """
    return f"{data_name}, {network}, {_start_of(folder):%Y-%m-%d %H:%M}"


def _start_of(folder: Path) -> datetime.datetime:
    """Return the date and time of the start of a run."""
    if found := _DATE.match(folder.resolve().name):
        with suppress(ValueError):  # digits that are no date
            return datetime.datetime.strptime(found[0], _DATE_FORMAT)
    environment = read_json_file(folder / ENVIRONMENT_FILE)
    if isinstance(environment, dict):
        with suppress(ValueError, TypeError):
            return datetime.datetime.fromisoformat(environment.get("started"))  # type: ignore[arg-type]
    path = folder / CONFIG_FILE
    return datetime.datetime.fromtimestamp((path if path.is_file() else folder).stat().st_mtime)


def write_confusion(path: Path, confusion: np.ndarray, classes: list[str]) -> None:
    """Write a confusion matrix (K, K) int64 as CSV: one row per true class, one column per predicted class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, confusion.tolist(), strict=True))
    write_text(path, text.getvalue())


def scored_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint that metrics.json describes, else the best one, else the last one; None without any."""
    names = [BEST_FILE, LAST_FILE]
    try:
        named = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))["checkpoint"]
        if isinstance(named, str) and Path(named).name == named:
            names.insert(0, named)
    except (OSError, ValueError, TypeError, KeyError):
        pass  # the run ended before its scores were written
    return next((folder / name for name in names if (folder / name).is_file()), None)


def find_checkpoint(run: Path) -> Path:
    """Return the scored checkpoint of a run folder, the weights of the folder of a shared model, or the file itself.

    Raises:
        DataError: the folder has no checkpoint, or a newer version wrote the run.
    """
    run = local_path("RUN", run)
    if not run.is_dir():
        return run
    check_run_format(run)
    checkpoint = scored_checkpoint(run)
    if checkpoint is not None:
        return checkpoint
    if (run / SHARED_WEIGHTS_FILE).is_file():
        return run / SHARED_WEIGHTS_FILE
    raise DataError(
        f"{run} must be a checkpoint, or a run folder with a checkpoint, or a folder with {SHARED_WEIGHTS_FILE}. Give "
        "a folder made by fastcell fit or fastcell export."
    )
