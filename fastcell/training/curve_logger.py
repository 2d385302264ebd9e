"""Write the training curve (metrics.csv) during a run."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from fastcell.runs.checkpoint import read_checkpoint
from fastcell.runs.run_folder import CURVE_COLUMNS, CURVE_FILE
from fastcell.storage.whole_files import write_text


class CurveLogger(Logger):
    """Collect the logged values of a run, one row per step, and write them as metrics.csv.

    A field is empty if its value was not logged at that step.

    Args:
        folder: the run folder.
        point: checkpoint from which the run resumes; it holds the rows up to its step.
    """

    def __init__(self, folder: Path, point: str | None = None) -> None:
        super().__init__()
        self.path = folder / CURVE_FILE
        self.rows: dict[int, dict[str, float]] = {}
        if point is not None and Path(point).parent == folder:
            content = read_checkpoint(point)
            if "fastcell_curve" in content:
                self.rows = {step: dict(row) for step, row in content["fastcell_curve"].items()}
            else:  # format 1
                self._load(int(content["global_step"]))

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
        """Do nothing: config.yaml holds the hyperparameters."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.setdefault(int(step or 0), {}).update(metrics)
        if "valid_loss" in metrics:  # epochs are long enough to update the file after each
            self.save()

    @rank_zero_only
    def save(self) -> None:
        columns = list(dict.fromkeys([*CURVE_COLUMNS, *(name for row in self.rows.values() for name in row)]))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"step": step, **row} for step, row in sorted(self.rows.items()))
        write_text(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
