"""Record of a run in its folder: requested settings, resolved settings, and changes when the run was resumed.

config.yaml holds the requested settings. environment.json holds their resolved values for each process that worked on
the run. If a setting changes when the run is resumed, config.yaml gets the new value, and a comment at its end gives
the date and both values.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import yaml

from fastcell.errors import DataError
from fastcell.runs.run_folder import CONFIG_FILE, ENVIRONMENT_FILE, METRICS_FILE, RESULT_FILES, create_run_folder
from fastcell.storage.formats import FORMATS
from fastcell.storage.whole_files import read_json_file, write_json, write_text
from fastcell.system import environment_report
from fastcell.training.same_settings import ARGUMENTS, Change, flat_settings, settings_of_point
from fastcell.training.start_weights import StartWeights

_COMMENT = "# went on "
_OLD_DATA_NAMES = (
    "batch_size",
    "eval_batch_size",
    "image_size",
    "fit",
    "normalization",
    "antialias",
    "balance",
    "depth",
)


class Resumption(NamedTuple):
    """How a run is resumed.

    Attributes:
        point: checkpoint from which it is resumed; None for the beginning.
        changes: settings that changed.
        resolved: resolved settings of the run, by dotted name.
        monitor: loss by which the run selects its best weights; None if it has not selected any.
    """

    point: str | None
    changes: Sequence[Change] = ()
    resolved: dict[str, Any] = {}  # noqa: RUF012, never changed
    monitor: str | None = None


def make_run_folder(runs: Path, data_name: str, network: str, config: str) -> Path:
    """Create a new run folder in `runs`, with `config` as ``config.yaml`` and with ``environment.json``."""
    folder = create_run_folder(runs, data_name, network)
    write_text(folder / CONFIG_FILE, config)
    head = {"format": FORMATS["run"].number, "started": _now()}
    write_json(folder / ENVIRONMENT_FILE, {**head, **_describe_machine()})
    return folder


def saved_settings(folder: Path) -> dict[str, Any]:
    """Return the settings in a run's config.yaml by dotted name.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / CONFIG_FILE
    try:
        return flat_settings(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is not a file written by fastcell fit ({reason}). Start a new run.") from None


def settings_of_checkpoint(content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the requested and the resolved settings of the run that wrote a checkpoint, by dotted name.

    A checkpoint of format 1 holds the arguments of model and data only.

    Args:
        content: result of `fastcell.runs.checkpoint.read_checkpoint`.
    """
    saved = content.get("fastcell_settings")
    state = content.get("CellDataModule", {})
    if saved is not None:
        return dict(saved["asked"]), dict(saved["resolved"])
    model = {f"model.{name}": value for name, value in content["hyper_parameters"].items()}
    data = {f"data.{name}": content.get("datamodule_hyper_parameters", {}).get(name) for name in _OLD_DATA_NAMES}
    known = {name: value for name, value in {**model, **data}.items() if name in ARGUMENTS and value is not None}
    return settings_of_point(known), {"data.store": state["store"]} if "store" in state else {}


def is_finished(folder: Path, changes: Sequence[Change]) -> bool:
    """Return whether a run is complete with scores, and no longer training is requested."""
    metrics = read_json_file(folder / METRICS_FILE)
    is_complete = isinstance(metrics, dict) and "epochs" in metrics
    return is_complete and not any(change.name in ("trainer.max_epochs", "trainer.max_steps") for change in changes)


class RunRecord(pl.Callback):
    """Write the resolved settings into the run folder when training starts.

    Args:
        folder: the run folder; None on ranks other than 0.
        config: text of config.yaml, with the settings requested now.
        resumption: how the run is resumed; None for a new run.
        started: weights of another run that this one started from; None if it did not.
        teacher: result of `fastcell.training.distillation.teacher.Teacher.record`; None without a teacher.
    """

    def __init__(
        self,
        folder: Path | None,
        config: str,
        resumption: Resumption | None,
        started: StartWeights | None = None,
        teacher: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.config, self.resumption = folder, config, resumption
        self.started, self.teacher = started, teacher

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.folder is None:
            return
        environment = read_json_file(self.folder / ENVIRONMENT_FILE)
        if not isinstance(environment, dict):
            environment = _describe_machine()
        environment["format"] = FORMATS["run"].number
        if self.resumption is None:
            environment["resolved"] = resolved_settings(trainer)
            if self.started is not None:
                environment["started_from"] = self.started._asdict()
            if self.teacher is not None:
                environment["teacher"] = self.teacher
        else:
            environment.setdefault("resumed", []).append(self._describe_resumption(trainer))
            self._record_changes()
            for name in RESULT_FILES:
                (self.folder / name).unlink(missing_ok=True)
        write_json(self.folder / ENVIRONMENT_FILE, environment)

    def _describe_resumption(self, trainer: pl.Trainer) -> dict[str, Any]:
        assert self.resumption is not None
        return {
            "date": _now(),
            "step": trainer.global_step,
            "changes": {change.name: [change.before, change.now] for change in self.resumption.changes},
            "resolved": resolved_settings(trainer),
            **{name: value for name, value in _describe_machine().items() if name in ("fastcell", "cpu", "gpus")},
            "torch_threads": torch.get_num_threads(),
        }

    def _record_changes(self) -> None:
        assert self.folder is not None
        assert self.resumption is not None
        if not self.resumption.changes:
            return
        path = self.folder / CONFIG_FILE
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(_COMMENT)]
        lines += [f"{_COMMENT}{_now()} with {change}" for change in self.resumption.changes]
        write_text(path, self.config + "\n".join([*lines, ""]))


def resolved_settings(trainer: pl.Trainer) -> dict[str, Any]:
    """Return the resolved settings of a started trainer."""
    data = getattr(trainer, "datamodule", None)
    return {
        "accelerator": trainer.strategy.root_device.type,
        "devices": trainer.world_size,
        "strategy": type(trainer.strategy).__name__,
        "precision": str(trainer.precision),
        "deterministic": bool(torch.are_deterministic_algorithms_enabled()),
        "progress": next((type(item).__name__ for item in trainer.callbacks if _shows_progress(item)), None),  # type: ignore[attr-defined]
        **getattr(data, "resolved", {}),
    }


def _shows_progress(callback: pl.Callback) -> bool:
    return type(callback).__name__ in ("RunBar", "EpochLines")


def _describe_machine() -> dict[str, Any]:
    return {**environment_report.describe_environment(), "torch_threads": torch.get_num_threads()}


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z")
