"""Choices of the options of Lightning's trainer that are names; they are checked before anything takes time."""

from __future__ import annotations

import typing
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.strategies import StrategyRegistry

from fastcell.cli.signature import choices_of
from fastcell.cli.slips import outside_choices
from fastcell.cli.trainer_options import TrainerArguments
from fastcell.errors import ArgumentError


def trainer_choices() -> dict[str, list[str]]:
    """Return the choices of the trainer's options by dotted name; strategies without their variants."""
    strategies = sorted(StrategyRegistry.available_strategies())
    hints = typing.get_type_hints(TrainerArguments)
    variants = {name for name in strategies for other in strategies if name.startswith(f"{other}_")}
    return {
        "trainer.accelerator": sorted({*AcceleratorRegistry.available_accelerators(), "auto", "gpu"}),
        "trainer.strategy": ["auto", *(name for name in strategies if name not in variants)],
        **{f"trainer.{name}": choices_of(hints[name]) for name in ("gradient_clip_algorithm", "profiler")},
    }


def check_trainer_names(settings: Any) -> None:
    """Check the values of the trainer's options that are names.

    Args:
        settings: section ``trainer`` of the configuration.

    Raises:
        ArgumentError: a name does not exist, or is an accelerator that this machine lacks.
    """
    variants = StrategyRegistry.available_strategies()
    for option, names in trainer_choices().items():
        name = settings[option.removeprefix("trainer.")]
        if isinstance(name, str) and name.lower() not in (*names, *(variants if option.endswith("strategy") else ())):
            raise ArgumentError(outside_choices(f"--{option}", names, name))
    name = settings["accelerator"]
    has_mps = name == "gpu" and pl.accelerators.MPSAccelerator.is_available()
    if name in ("gpu", "cuda") and not (pl.accelerators.CUDAAccelerator.is_available() or has_mps):
        raise ArgumentError(
            f"--trainer.accelerator must be one that this machine has, got {name!r}. Leave it out, or write cpu; "
            "'fastcell doctor' shows what is missing and how to get it."
        )
