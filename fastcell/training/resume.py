"""Resume points: checkpoints from which a training run resumes at exactly the next batch.

A point is a checkpoint ``step-NNNNNNNNN.ckpt`` in the run folder. It is written after a complete step, at a given
interval of steps or minutes, and when the run is asked to stop. The two newest points are kept until the run has ended;
``last.ckpt`` also serves as a point. `POINT_CONTENT` lists the content. A resumed run additionally reads its settings
from ``config.yaml``. No random state is saved: order, augmentation and dropout follow from seed, epoch and position.
"""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from fastcell.errors import DataError, invalid
from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import CellModule
from fastcell.models.own_code import check_code, code_of
from fastcell.runs.checkpoint import code_of_checkpoint, read_checkpoint
from fastcell.runs.run_folder import BEST_FILE, CONFIG_FILE, ENVIRONMENT_FILE, check_run_format
from fastcell.storage.formats import NewerFormatError
from fastcell.system.lightning_internals import batches_begun
from fastcell.system.messages import Say
from fastcell.training.best_weights import monitor_of
from fastcell.training.curve_logger import CurveLogger
from fastcell.training.run_record import (
    Resumption,
    is_finished,
    saved_settings,
    settings_of_checkpoint,
)
from fastcell.training.same_settings import AUTO, check_settings_of_run, settings_of_point
from fastcell.training.stop_signals import LOOK_EVERY, StopSignals
from fastcell.training.trainer import is_rank_zero

POINT_CONTENT = {
    "epoch": "epochs completed (Lightning)",
    "global_step": "optimizer steps taken (Lightning)",
    "loops": "how far each loop of the trainer is: epochs, batches of the epoch, validations (Lightning)",
    "state_dict": "weights, and their running average (`CellModule`)",
    "optimizer_states": "moments of Adam (Lightning)",
    "lr_schedulers": "step of the learning rate schedule (Lightning)",
    "callbacks": "lowest validation loss so far, and its checkpoint (`ModelCheckpoint`)",
    "hyper_parameters": "arguments of `CellModule`, with classes and preprocessing",
    "hparams_name": "name of that argument (Lightning)",
    "datamodule_hyper_parameters": "arguments of `CellDataModule`",
    "datamodule_hparams_name": "name of that argument (Lightning)",
    "CellDataModule": "store, parts, ranks; cells, labels, batch size, seed, which must not change; corrupt cells",
    "fastcell_unread": "training scores since the last row of metrics.csv (`CellModule`)",
    "fastcell_decay_rises": "whether the decay of the average rises over the first steps (`CellModule`)",
    "fastcell_curve": "rows of metrics.csv (`CurveLogger`)",
    "fastcell_settings": "settings that may not change, what they resolved to (`fastcell.training.same_settings`), and "
    "hashes of the user's own code (`fastcell.models.own_code`)",
    "fastcell_format": "number of this content (`fastcell.storage.formats.FORMATS`)",
    "fastcell_version": "version of fastcell that wrote it",
    "pytorch-lightning_version": "that wrote it",
}
"""Content of a point and the code that writes it: every key of the checkpoint."""

_POINT = re.compile(r"step-(\d{9})\.ckpt")
_KEPT = 2


class ResumePoints(pl.Callback):
    """Write resume points, and turn SIGTERM and Ctrl-C into a stop after the current step.

    A second signal stops at once.

    Args:
        folder: the run folder; None on ranks other than 0.
        every_steps: optimizer steps between points, or None.
        every_minutes: minutes between points, or None.
        settings: settings to store in the points, by dotted name.

    Raises:
        ArgumentError: a number is not positive.
    """

    def __init__(
        self,
        folder: Path | None,
        every_steps: int | None,
        every_minutes: float | None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        for name, value in (("checkpoint_every_steps", every_steps), ("checkpoint_every_minutes", every_minutes)):
            if value is not None and not value > 0:
                raise invalid(name, "above 0", value, "Leave it out to write no such points")
        self.folder, self.every_steps, self.every_minutes = folder, every_steps, every_minutes
        self.settings = settings_of_point(settings or {})
        self._code = code_of(self.settings)
        self._signals = StopSignals()
        self._last_step = self._last_time = 0.0
        self._saved_step = -1

    @property
    def stopped_by(self) -> signal.Signals | None:
        """Signal that asked the run to stop, or None."""
        return self._signals.stopped_by

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or not isinstance(pl_module, CellModule):
            return
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        pl_module.on_step_done = lambda: self._step_done(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_step, self._last_time = trainer.global_step, time.monotonic()
        self._signals.take_over(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._signals.give_back()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        found = getattr(trainer, "datamodule", None)
        chosen = {f"data.{name}": value for name, value in getattr(found, "resolved", {}).items()}
        if isinstance(pl_module, CellModule):
            chosen["model.steps_per_call"] = pl_module.hparams["steps_per_call"]
        if isinstance(found, CellDataModule):
            chosen["data.eval_batch_size"] = found.eval_batch_size
        resolved = {"trainer.precision": str(trainer.precision), **chosen}
        kept = {name: value for name, value in resolved.items() if name in AUTO}
        checkpoint["fastcell_settings"] = {"asked": self.settings, "resolved": kept, "code": self._code}
        curves = [logger.rows for logger in trainer.loggers if isinstance(logger, CurveLogger)]
        checkpoint["fastcell_curve"] = {step: dict(row) for rows in curves for step, row in rows.items()}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        between_steps = trainer.training and not trainer.validating and not trainer.sanity_checking
        if isinstance(exception, SIGTERMException) and between_steps and self._saved_step != trainer.global_step:
            self._save(trainer)
        self._signals.give_back()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_step = trainer.global_step  # last.ckpt holds this step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_step = trainer.global_step

    def _step_done(self, trainer: pl.Trainer) -> None:
        if self._is_due(trainer) and not _evaluation_follows(trainer):
            self._save(trainer)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        if self.every_steps is not None and trainer.global_step - self._last_step >= self.every_steps:
            return True
        if self.every_minutes is None:
            return False
        is_time = time.monotonic() - self._last_time >= 60 * self.every_minutes
        if trainer.world_size == 1:
            return is_time
        return trainer.global_step % LOOK_EVERY == 0 and bool(trainer.strategy.broadcast(is_time))

    def _save(self, trainer: pl.Trainer) -> None:
        assert self.folder is not None
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.folder / f"step-{trainer.global_step:09d}.ckpt")
        self._saved_step = trainer.global_step
        self._last_step, self._last_time = trainer.global_step, time.monotonic()
        if trainer.is_global_zero:
            for path in _points(self.folder)[_KEPT:]:
                path.unlink()


def latest_point(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return the readable checkpoint with the most steps in a run folder, or None, and the damaged checkpoints.

    Raises:
        NewerFormatError: a newer version wrote one of them.
    """
    found: list[tuple[int, float, Path]] = []
    torn: list[Path] = []
    for path in sorted(folder.glob("*.ckpt")):
        try:
            step = int(read_checkpoint(path)["global_step"])
        except NewerFormatError:
            raise
        except (DataError, KeyError, TypeError, ValueError):
            torn.append(path)
        else:
            found.append((step, path.name == "last.ckpt", path))
    # best.ckpt is written before the other callbacks of the epoch have run
    found = [item for item in found if item[2].name != BEST_FILE]
    return (max(found)[2] if found else None), torn


def plan_resumption(folder: Path, settings: dict[str, Any], say: Say) -> Resumption | None:
    """Decide how a stopped run is resumed; None if it is finished.

    Args:
        folder: the run folder.
        settings: requested settings, by dotted name.
        say: called on rank 0 with each line for the user.

    Raises:
        ArgumentError: a setting differs from the run that must not differ.
        DataError: config.yaml or the best weights are damaged, or a newer version wrote a checkpoint.
    """
    point, _ = latest_point(folder)
    content = {} if point is None else read_checkpoint(point)
    asked, resolved = settings_of_checkpoint(content) if content else ({}, {})
    changes = check_settings_of_run({**saved_settings(folder), **asked}, settings, resolved)
    check_code(code_of_checkpoint(content), settings)
    if point is not None and is_finished(folder, changes):
        return None
    return Resumption(point_to_go_on_from(folder, say), changes, resolved, monitor_of(content))


def check_start(path: str, settings: dict[str, Any]) -> Resumption:
    """Check that a new run may continue from a checkpoint: its settings must agree with those of the checkpoint's run.

    Args:
        path: the checkpoint.
        settings: requested settings, by dotted name.

    Raises:
        ArgumentError: a setting differs from the checkpoint's run that must not differ.
        DataError: the checkpoint is missing or damaged.
    """
    content = read_checkpoint(path)
    if "global_step" not in content:  # a shared model, or a saved estimator
        hint = "It has weights alone: give --start_from"
        raise invalid("--ckpt_path", "a checkpoint of fastcell fit with the state of its training", path, hint)
    asked, resolved = settings_of_checkpoint(content)
    check_code(code_of_checkpoint(content), settings)
    return Resumption(path, check_settings_of_run(asked, settings, resolved), resolved, monitor_of(content))


def point_to_go_on_from(folder: Path, say: Say) -> str | None:
    """Return the newest undamaged resume point of a stopped run; None to start from the beginning.

    Args:
        folder: the run folder.
        say: called on rank 0 with each line for the user.

    Raises:
        DataError: the best weights are damaged.
    """
    point, torn = latest_point(folder)
    if folder / BEST_FILE in torn:
        raise DataError(
            f"{folder / BEST_FILE} is damaged: the weights of the lowest validation loss so far are lost. Remove the "
            "file to go on and keep the best of the epochs that follow, or start a new run."
        )
    if is_rank_zero():
        for path in torn:
            say(f"{path} is damaged and ignored")
        where = "the beginning: there is no undamaged point" if point is None else str(point)
        say(f"resuming from {where}")
        _check_threads(folder, say)
    return None if point is None else str(point)


def _check_threads(folder: Path, say: Say) -> None:
    """Report a changed number of threads, because sums over threads are then rounded in another order."""
    try:
        before = json.loads((folder / ENVIRONMENT_FILE).read_text(encoding="utf-8")).get("torch_threads")
    except (OSError, ValueError):
        return
    if before != torch.get_num_threads():
        say(
            f"this run started with {before} threads and resumes with {torch.get_num_threads()}: the weights will be "
            f"equal except for rounding. OMP_NUM_THREADS={before} reproduces them bit by bit."
        )


def remove_points(folder: Path) -> None:
    """Remove the points of a run that has ended."""
    for path in _points(folder):
        path.unlink()


def check_run(folder: Path) -> None:
    """Check that a folder is the folder of a training run, so that the run can be resumed.

    Raises:
        ArgumentError: the folder has no config.yaml.
        NewerFormatError: a newer version wrote it.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise invalid(
            "--resume",
            "the folder of a training run, with its config.yaml",
            str(folder),
            "Give a folder that fit made, or start a new run",
        )
    check_run_format(folder)


def _points(folder: Path) -> list[Path]:
    """Return the points in a folder, newest first."""
    return sorted((path for path in folder.iterdir() if _POINT.fullmatch(path.name)), reverse=True)


def _evaluation_follows(trainer: pl.Trainer) -> bool:
    """Return whether this step ends an epoch or the run, or validation follows: a checkpoint is then saved anyway."""
    batches = batches_begun(trainer)
    if trainer.is_last_batch or batches >= trainer.num_training_batches:
        return True
    if 0 <= trainer.max_steps <= trainer.global_step or trainer.should_stop:
        return True
    every = trainer.val_check_batch
    return every is not None and every != float("inf") and batches % int(every) == 0
