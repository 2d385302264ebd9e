"""The default length of a training that starts from the weights of another run: half of that of the preset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fastcell.cli.lightning_parser import value_of, values_of
from fastcell.training.recipe import PRESETS, preset_path
from fastcell.training.start_weights import SHARE_OF_EPOCHS

_LIMITS = ("max_epochs", "max_steps", "max_time")


def shorter_length(arguments: Sequence[str]) -> list[str]:
    """Return arguments that shorten the training of the preset; empty if the user sets the length.

    Args:
        arguments: unparsed arguments of ``fastcell fit``.

    Raises:
        ArgumentError: the preset is unknown.
    """
    if any(word.startswith(f"--trainer.{name}") for word in arguments for name in _LIMITS):
        return []
    if any(name in _trainer_of(Path(path)) for path in values_of(("-c", "--config"), arguments) for name in _LIMITS):
        return []
    preset = _trainer_of(preset_path(value_of("--preset", arguments) or PRESETS[0]))
    return [
        f"--trainer.{name}={math.ceil(SHARE_OF_EPOCHS * preset[name])}"
        for name in ("max_epochs", "max_steps")
        if isinstance(preset.get(name), int) and preset[name] > 0
    ]


def _trainer_of(path: Path) -> dict[str, Any]:
    """Return the section ``trainer`` of a settings file; empty if there is none. The parser checks the file later."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    trainer = values.get("trainer") if isinstance(values, dict) else None
    return trainer if isinstance(trainer, dict) else {}
