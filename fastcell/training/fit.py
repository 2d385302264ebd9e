"""What a training run is made of: presets, the trainer's settings, its folder, its checkpoints, and how it ends."""

from __future__ import annotations

import importlib.resources
import json
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from fastcell.errors import FastcellError, StoppedError, invalid
from fastcell.runs.run_folder import create_run_folder
from fastcell.storage.whole_files import write_json, write_text
from fastcell.system import environment_report, resources
from fastcell.system.messages import Say
from fastcell.training.progress_bar import CellBar, EpochLines, Throughput
from fastcell.training.resume import RankWatch, ResumePoints, latest_point

PRESETS = ("demo", "paper", "fast")


def preset_path(name: str) -> Path:
    """Return the packaged YAML file of a preset. Raises ArgumentError for an unknown name."""
    if name not in PRESETS:
        raise invalid("--preset", f"one of {', '.join(PRESETS)}", name, "Or give a file of your own with --config")
    return Path(str(importlib.resources.files("fastcell") / "presets" / f"{name}.yaml"))


def is_rank_zero() -> bool:
    """Return whether this process is rank 0, from the launcher's variables: before there is a trainer that knows."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def fill_in(settings: Any) -> None:
    """Put what suits the machine where the trainer's settings are open.

    Args:
        settings: arguments of `pl.Trainer` as attributes; accelerator, precision and deterministic are changed.
    """
    if settings.accelerator == "auto":
        settings.accelerator = "gpu" if resources.has_gpu() else "cpu"
    on_cpu = settings.accelerator == "cpu"
    if settings.precision is None:
        settings.precision = "32-true" if on_cpu else "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    if settings.deterministic is None:
        settings.deterministic = on_cpu
    # An aid to find bugs that costs bandwidth; torch makes its module out of this one's class.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def progress_callbacks(settings: Any, throughput: Throughput) -> list[pl.Callback]:
    """Return a bar where stdout and stderr are a terminal, else a line per epoch; nothing where it is not wanted.

    Args:
        settings: arguments of `pl.Trainer` as attributes; enable_progress_bar becomes False where there is no bar.
        throughput: counts cells.
    """
    if settings.enable_progress_bar is False:
        return []
    if sys.stderr.isatty() and sys.stdout.isatty():
        return [CellBar(throughput)]
    settings.enable_progress_bar = False
    return [EpochLines(throughput)]


def checkpoint_callback(folder: Path | None, validates: bool) -> ModelCheckpoint:
    """Return what keeps ``last.ckpt``, and where the run validates ``best.ckpt``, of the least validation loss.

    Args:
        folder: the run folder; None on other ranks than 0.
        validates: whether there is a validation part, and it is looked at.
    """
    place: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    if validates:
        return ModelCheckpoint(filename="best", monitor="valid_loss", save_last=True, **place)
    return ModelCheckpoint(filename="last", **place)


def make_run_folder(runs: Path, preset: str, config: str) -> Path:
    """Make a new run folder in `runs` with ``config.yaml``, of this content, and ``environment.json``."""
    folder = create_run_folder(runs, preset)
    write_text(folder / "config.yaml", config)
    environment_now = {**environment_report.describe_environment(probe=False), "torch_threads": torch.get_num_threads()}
    write_json(folder / "environment.json", environment_now)
    return folder


def point_to_go_on_from(folder: Path, say: Say) -> str | None:
    """Return the newest whole point of a run that was stopped; None for its beginning.

    Args:
        folder: the run folder.
        say: gets, on rank 0, the lines for the user.
    """
    point, torn = latest_point(folder)
    if is_rank_zero():
        for path in torn:
            say(f"{path} is torn and left aside")
        where = "its beginning: no step was saved" if point is None else str(point)
        say(f"going on from {where}")
        _check_threads(folder, say)
    return None if point is None else str(point)


def _check_threads(folder: Path, say: Say) -> None:
    """The sums of several threads are rounded in another order."""
    try:
        before = json.loads((folder / "environment.json").read_text(encoding="utf-8")).get("torch_threads")
    except (OSError, ValueError):
        return
    if before != torch.get_num_threads():
        say(
            f"this run began with {before} threads and goes on with {torch.get_num_threads()}: the weights will be "
            f"equal but for rounding. OMP_NUM_THREADS={before} repeats them bit by bit."
        )


@contextmanager
def told_how_it_ended(
    trainer: pl.Trainer,
    ranks: RankWatch,
    points: ResumePoints | None = None,
    folder: Path | None = None,
    *,
    resumed: bool = False,
    repeatable: bool = False,
) -> Iterator[None]:
    """Turn the ends of a run into errors that say what to do; a run that fails before its first checkpoint leaves no
    folder.

    Args:
        trainer: that runs.
        ranks: among its callbacks.
        points: likewise, in training.
        folder: the run folder, on rank 0.
        resumed: whether the folder was there before.
        repeatable: whether the same command goes on from where it was stopped.

    Raises:
        StoppedError: a signal stopped the run.
        FastcellError: another rank died.
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        yield
    except SIGTERMException:
        number = (points.stopped_by if points is not None else None) or signal.SIGTERM
        raise _stopped(trainer, number, folder, repeatable) from None
    except RuntimeError as error:  # as a collective operation does whose partner is gone
        died = ranks.who_died() if trainer.world_size > 1 else None
        if died is None:
            raise
        raise FastcellError(f"{died}; this run ends, and can be resumed.") from error
    except SystemExit:
        if trainer.interrupted:  # Lightning turns Ctrl-C into exit status 1
            raise KeyboardInterrupt from None
        raise
    finally:
        if folder is not None and not resumed and not any(folder.glob("*.ckpt")):
            shutil.rmtree(folder)


def _stopped(trainer: pl.Trainer, number: int, folder: Path | None, repeatable: bool) -> StoppedError:
    name = signal.Signals(number).name
    if repeatable:
        return StoppedError(f"stopped by {name}. The same command goes on from there.", number)
    if folder is None or not any(folder.glob("*.ckpt")):
        return StoppedError(f"stopped by {name}.", number)
    step = trainer.global_step
    return StoppedError(f"stopped by {name} after step {step:,}. Go on with `fastcell fit --resume {folder}`.", number)
