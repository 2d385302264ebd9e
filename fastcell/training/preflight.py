"""Check, before training, the settings of Lightning's trainer that would fail later in training or scoring."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from fastcell.errors import ArgumentError, did_you_mean, invalid
from fastcell.loading.datamodule import CellDataModule
from fastcell.system.resources import num_cpus
from fastcell.training.best_weights import BALANCED
from fastcell.training.evaluate import final_subset, has_labelled_cells
from fastcell.training.trainer import OPEN_PRECISIONS

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "64-true")
_SAME_PRECISIONS = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "64": "64-true"}
_MONITORS = ("loss", "accuracy", "balanced_accuracy")
_MOST_RANKS_PER_CPU = 4
_MOST_GPUS = 1024


def check_trainer_settings(settings: Any) -> None:
    """Check settings that can be checked without data.

    Args:
        settings: arguments of `pl.Trainer` as attributes.

    Raises:
        ArgumentError: the first setting that cannot work.
    """
    if settings.barebones:
        raise invalid("--trainer.barebones", "false", True, "A run writes checkpoints, scores and curves; leave it out")
    if settings.enable_checkpointing is False and not settings.fast_dev_run:
        raise invalid(
            "--trainer.enable_checkpointing", "true", False, "A run consists of its checkpoints; leave it out"
        )
    for name, least in (("check_val_every_n_epoch", 1), ("accumulate_grad_batches", 1), ("val_check_interval", 0)):
        value = getattr(settings, name)
        if isinstance(value, int | float) and not isinstance(value, bool) and (value == 0 or value < least):
            raise invalid(f"--trainer.{name}", f"at least {max(least, 1)}", value, "Leave it out for the default")
    if isinstance(settings.strategy, str) and re.search("spawn|fork|notebook", settings.strategy):
        hint = "ddp starts the command once for each device"
        raise invalid("--trainer.strategy", "one that starts its own processes", settings.strategy, hint)
    precision = None if settings.precision in OPEN_PRECISIONS else str(settings.precision)
    if precision is not None and _SAME_PRECISIONS.get(precision, precision) not in PRECISIONS:
        hint = "Weights in half precision do not train well; the mixed kinds are as fast"
        raise invalid("--trainer.precision", f"one of {', '.join(('auto', *PRECISIONS))}", precision, hint)
    check_devices(settings)


def check_devices(settings: Any) -> None:
    """Check the number of processes.

    Args:
        settings: arguments of `pl.Trainer` as attributes.

    Raises:
        ArgumentError: there is no process, there are far more than CPUs, or more than the GPUs of any machine.
    """
    on_cpu = settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.cuda.is_available())
    try:
        number = int(str(settings.devices))
    except ValueError:  # a list of GPUs, or auto
        return
    if number < 1 and (on_cpu or number != -1):
        rule = "above 0" if on_cpu else "above 0, or -1 for all GPUs"
        raise invalid("--trainer.devices", rule, settings.devices, "Leave it out for the default")
    most = max(8, _MOST_RANKS_PER_CPU * num_cpus()) if on_cpu else _MOST_GPUS
    if number > most:
        rule = f"at most {most} processes" + (f" on {num_cpus()} CPUs" if on_cpu else "")
        raise invalid("--trainer.devices", rule, settings.devices, "Take fewer")


def check_scored_batches(command: str, settings: Any) -> None:
    """Check that validate and test have batches to score.

    Args:
        command: name of the command; only ``validate`` and ``test`` are checked.
        settings: arguments of `pl.Trainer` as attributes.

    Raises:
        ArgumentError: the limit of their batches is 0.
    """
    name = {"validate": "limit_val_batches", "test": "limit_test_batches"}.get(command)
    if name is not None and getattr(settings, name) == 0:
        raise invalid(f"--trainer.{name}", "above 0", 0, "There is nothing to score without a batch; leave it out")


def check_trainer(trainer: pl.Trainer, model: pl.LightningModule, data: CellDataModule, settings: Any) -> None:
    """Check a trainer against network and data.

    Args:
        trainer: trainer, with the user's callbacks.
        model: network to train.
        data: data with labels.
        settings: arguments of `pl.Trainer` as attributes.

    Raises:
        ArgumentError: a callback monitors a value that is never logged, a limit leaves nothing to score, or batches are
            too small for the network.
    """
    validates = has_labelled_cells(data, "valid") and settings.limit_val_batches != 0
    names = [f"train_{name}" for name in _MONITORS[:2]]
    own = getattr(model, "own_metrics", None)
    names += [f"valid_{name}" for name in (*_MONITORS, *(own.names if own is not None else ()))] if validates else []
    names += [BALANCED] if validates and data.emphasis is not None else []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in names:
            raise _no_such_value(type(callback).__name__, monitor, names)
    num_ranks = trainer.world_size
    if data.batch_size < 2 * num_ranks and any(isinstance(part, _BatchNorm) for part in model.modules()):
        rule = f"at least {2 * num_ranks}: batch normalisation needs two cells per process"
        raise invalid("--data.batch_size", rule, data.batch_size, "64 is usual")
    subset = final_subset(data)
    limit = {"test": "limit_test_batches", "valid": "limit_val_batches"}.get(subset or "")
    if limit is not None and not settings.fast_dev_run and getattr(settings, limit) == 0:
        hint = f"The run is scored on its {subset} subset at the end; leave it out"
        raise invalid(f"--trainer.{limit}", "above 0", 0, hint)


def _no_such_value(callback: str, monitor: str, names: Sequence[str]) -> ArgumentError:
    hint = did_you_mean(monitor, names) or "Choose one of them"
    return invalid(f"monitor of {callback}", f"one of {', '.join(names)}", monitor, hint.rstrip(".?"))
