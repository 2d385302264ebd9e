"""How the networks of a study are trained: a preset, with what the command line changes."""

from __future__ import annotations

import importlib.resources
import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from fastcell.errors import invalid

SELECTS = ("best", "last")
# What a study decides by itself, or has no use for.
_TAKEN = {"path", "split_name", "subsample", "seed", "predict_split", "steps_per_call", "classes", "preprocessing"}
_TRAINER = ("max_epochs", "max_steps", "precision", "gradient_clip_val")


@dataclass(frozen=True)
class Recipe:
    """Settings of model, data and trainer.

    Attributes:
        preset: name of the packaged settings.
        model: arguments of `CellModule`.
        data: arguments of `CellDataModule`; `augmentation` as a dictionary.
        trainer: `max_epochs`, `max_steps` and what else of `_TRAINER` is given.
        select: ``best`` (weights of the least validation loss) or ``last``.
    """

    preset: str
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    select: str = "best"

    @property
    def image_size(self) -> int:
        """Side of the images [px]."""
        return int(self.data.get("image_size", 128))

    def at_size(self, image_size: int) -> Recipe:
        """The same on images of another side [px]."""
        return replace(self, data={**self.data, "image_size": image_size})

    def with_model(self, **values: Any) -> Recipe:
        """The same with other arguments of the model."""
        return replace(self, model={**self.model, **values})

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def read_recipe(preset: str, changes: Sequence[str] = (), select: str | None = None) -> Recipe:
    """The recipe of a preset with changes such as ``--data.fit contain`` or ``--model.learning_rate=1e-3``.

    Args:
        preset: demo, paper or fast.
        changes: arguments as `fastcell fit` takes them.
        select: weights to be evaluated; None for the preset's own.

    Raises:
        ArgumentError: an unknown preset or argument, or one that a study decides itself.
    """
    settings = yaml.safe_load(preset_path(preset).read_text(encoding="utf-8"))
    parts: dict[str, dict[str, Any]] = {name: dict(settings.get(name, {})) for name in ("model", "data", "trainer")}
    parts["trainer"] = {name: value for name, value in parts["trainer"].items() if name in _TRAINER}
    known = _known_names()
    for name, text in _pairs(changes):
        part, _, key = name.removeprefix("--").partition(".")
        key, _, inner = key.partition(".")
        if part not in parts or key not in known[part] or (inner and key != "augmentation"):
            taken = key in _TAKEN
            way_out = "The study decides it itself" if taken else "See fastcell compare --help and fastcell fit --help"
            raise invalid("arguments", "those of compare, or --model.*, --data.*, --trainer.* of fit", name, way_out)
        value = _value(text)
        if inner:
            parts[part][key] = {**parts[part].get(key, {}), inner: value}
        else:
            parts[part][key] = value
    if select is None:
        select = str(settings.get("select", "best"))
    return Recipe(preset, parts["model"], parts["data"], parts["trainer"], select)


def _pairs(changes: Sequence[str]) -> list[tuple[str, str]]:
    """Names and values of ``--name value`` and ``--name=value``."""
    words, pairs = list(changes), []
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not name.startswith("--") or not (equals or words):
            raise invalid("arguments", "names with a value each", word, "Write for example --data.fit contain")
        pairs.append((name, value if equals else words.pop(0)))
    return pairs


def _value(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):  # YAML asks for a dot in 1e-3
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _known_names() -> dict[str, set[str]]:
    from fastcell.loading.datamodule import CellDataModule
    from fastcell.models.lightning_module import CellModule

    def of(kind: type) -> set[str]:
        return set(inspect.signature(kind).parameters) - _TAKEN

    return {"model": of(CellModule), "data": of(CellDataModule), "trainer": set(_TRAINER)}


PRESETS = ("demo", "paper", "fast")


def preset_path(name: str) -> Path:
    """The packaged YAML file of a preset. Raises ArgumentError for an unknown name."""
    if name not in PRESETS:
        raise invalid("--preset", f"one of {', '.join(PRESETS)}", name, "Or give a file of your own with --config")
    return Path(str(importlib.resources.files("fastcell") / "presets" / f"{name}.yaml"))
