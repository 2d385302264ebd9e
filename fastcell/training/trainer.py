"""Configure Lightning's trainer for this package, and choose settings for the machine where the user gave none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from fastcell.errors import invalid
from fastcell.system import resources
from fastcell.training.progress_bar import EpochLines, Throughput
from fastcell.training.run_bar import RunBar

OPEN_PRECISIONS = (None, "auto")
"""Values of the precision that request an automatic choice; only ``auto`` measures the speed of a CPU."""

STEPS_PER_CALL = 10
"""Optimizer steps of a call of the trainer on one GPU."""

_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # the loaders divide the cells among the ranks
}


def build_trainer(device: torch.device, **settings: Any) -> pl.Trainer:
    """Return a trainer for one device that writes, prints and logs nothing by itself.

    Args:
        device: a CPU, or a GPU with its index.
        **settings: arguments of `pl.Trainer` that replace these defaults.
    """
    on_gpu = device.type == "cuda"
    place: dict[str, Any] = {
        "accelerator": "gpu" if on_gpu else "cpu",
        "devices": [device.index or 0] if on_gpu else 1,
        "precision": machine_precision(on_gpu),
        "benchmark": True if on_gpu else None,
    }
    return pl.Trainer(**{**_QUIET, **place, **settings})


def machine_precision(on_gpu: bool) -> Any:
    """Return the trainer's precision for a device: bfloat16 or float16 mixed on a GPU, float32 on a CPU."""
    if not on_gpu:
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def resolve_settings(
    settings: Any, precision: str | None = None, time_cpu: Callable[[], str] | None = None
) -> dict[str, Any]:
    """Return the trainer's settings for the machine, with values that suit it where the user gave none.

    Args:
        settings: arguments of `pl.Trainer` as attributes; they are not changed.
        precision: value of an automatic precision; None for the default of the machine.
        time_cpu: function that chooses the precision ``auto`` on a CPU.

    Returns:
        accelerator, precision, deterministic and benchmark. On a GPU that need not be deterministic, cuDNN times its
        algorithms in the first batches, since all batches have one size.

    Raises:
        ArgumentError: a CPU cannot compute in this precision.
    """
    accelerator, deterministic = settings.accelerator, settings.deterministic
    if accelerator == "auto":
        accelerator = "gpu" if resources.has_gpu() else "cpu"
    on_cpu = accelerator == "cpu"
    is_open = settings.precision in OPEN_PRECISIONS
    if is_open and precision == "16-mixed" and on_cpu:
        raise invalid("precision of a resumed run", "one that a CPU supports", precision, "Resume it on a GPU")
    leave_memory_unfilled()
    chosen = precision if is_open else settings.precision
    if chosen is None and settings.precision == "auto" and on_cpu and time_cpu is not None:
        chosen = time_cpu()
    return {
        "accelerator": accelerator,
        "precision": chosen or machine_precision(not on_cpu),
        "deterministic": on_cpu if deterministic is None else deterministic,
        "benchmark": (None if on_cpu or deterministic else True) if settings.benchmark is None else settings.benchmark,
    }


def choose_steps_per_call(settings: Any) -> int:
    """Return the optimizer steps of a call of the trainer for a run that leaves it open.

    On one GPU, a call of the trainer takes about as long as the step of a small batch, so that several steps are made
    in a call. Settings that count calls, of which the last one of an epoch is shorter, or that need automatic
    optimization, keep one step.

    Args:
        settings: arguments of `pl.Trainer` as attributes.
    """
    accelerator = "gpu" if settings.accelerator == "auto" and resources.has_gpu() else settings.accelerator
    num_gpus = torch.cuda.device_count() if settings.devices in ("auto", -1, "-1") else settings.devices
    interval, limit = settings.val_check_interval, settings.limit_train_batches
    is_plain = (
        str(accelerator) in ("gpu", "cuda")
        and str(num_gpus) in ("1", "[0]")
        and settings.num_nodes == 1
        and settings.accumulate_grad_batches in (None, 1)
        and not settings.gradient_clip_val
        and not settings.fast_dev_run
        and not settings.overfit_batches
        and not settings.callbacks
        and (limit is None or isinstance(limit, float))
        and (interval is None or isinstance(interval, float))
    )
    return STEPS_PER_CALL if is_plain else 1


def check_trains(settings: Any) -> None:
    """Check that a run has steps to train.

    Args:
        settings: arguments of `pl.Trainer` as attributes.

    Raises:
        ArgumentError: a limit is 0, or a number of epochs or steps is below -1, which means no limit.
    """
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        value = getattr(settings, name)
        if value is None or isinstance(value, bool):
            continue
        if value == 0:
            raise invalid(f"--trainer.{name}", "above 0", value, "Nothing would be trained; leave it out for no limit")
        if value < -1 and name != "limit_train_batches":
            raise invalid(f"--trainer.{name}", "above 0, or -1 for no limit", value, "Leave it out")


def leave_memory_unfilled() -> None:
    """Prevent torch's deterministic mode from filling new memory, a debugging aid that costs bandwidth."""
    # Torch replaces the class of this module, so mypy does not know the attribute.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def progress_callbacks(settings: Any, throughput: Throughput) -> list[pl.Callback]:
    """Return a bar if stdout and stderr are a terminal, else one line per epoch; no callback if progress is disabled.

    Build the trainer with `enable_progress_bar` False: these callbacks replace Lightning's own bar.

    Args:
        settings: arguments of `pl.Trainer` as attributes.
        throughput: callback that counts cells.
    """
    if settings.enable_progress_bar is False:
        return []
    if sys.stderr.isatty() and sys.stdout.isatty():
        return [RunBar()]
    return [EpochLines(throughput)]


def is_rank_zero() -> bool:
    """Return whether this process is rank 0, from the launcher's environment variables; needs no trainer."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0
