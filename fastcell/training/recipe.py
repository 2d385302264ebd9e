"""Recipe: a preset plus overrides, as settings of model, data and trainer.

The packaged presets are the YAML files of ``fastcell/presets``, and only this module reads them. ``fastcell fit``
passes a preset's file to its own parser (`preset_path`); ``compare``, ``bench`` and the scikit-learn estimator take a
`Recipe`.
"""

from __future__ import annotations

import importlib.resources
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from fastcell.errors import did_you_mean, invalid
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.augmentation import Augmentation

# Settings that a study sets itself or does not use.
_TAKEN = {"path", "split_name", "subsample", "seed", "predict_split", "steps_per_call", "classes", "preprocessing"}
_TRAINER = ("max_epochs", "max_steps", "precision", "gradient_clip_val")
_PREPROCESSING = ("image_size", "fit", "normalization", "antialias", "scale_um_per_px")
_FIRST = ("demo", "paper")  # order in lists: the default preset, the published one, then the others by name


def _preset_names() -> tuple[str, ...]:
    """Return the names of the packaged presets, the default one first."""
    files = (importlib.resources.files("fastcell") / "presets").iterdir()
    names = {file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")}
    return (*(name for name in _FIRST if name in names), *sorted(names.difference(_FIRST)))


PRESETS = _preset_names()


@dataclass(frozen=True)
class Recipe:
    """Settings of model, data and trainer.

    Attributes:
        preset: name of the packaged preset.
        model: arguments of `CellModule`.
        data: arguments of `CellDataModule`; `augmentation` as a dictionary.
        trainer: `max_epochs`, `max_steps`, `precision` and `gradient_clip_val`, as far as they are given.
        select: ``best`` (weights with the lowest validation loss) or ``last``.
    """

    preset: str
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    select: str = "best"

    @property
    def image_size(self) -> int:
        """Height and width of the images [px]."""
        return int(self.data.get("image_size", 128))

    @property
    def batch_size(self) -> int:
        """Cells in an optimizer step."""
        return int(self.data.get("batch_size", 256))

    @property
    def balance(self) -> str:
        """Treatment of rare classes, as in `fastcell.dataset.views.ViewConfig`."""
        return str(self.data.get("balance", "auto"))

    @property
    def balance_cap(self) -> float | None:
        """Largest mean number of repeats of a cell, as in `fastcell.dataset.views.ViewConfig`."""
        return self.data.get("balance_cap")

    @property
    def max_epochs(self) -> int:
        """Number of epochs after which training ends; -1 if `max_steps` ends it."""
        return int(self.trainer.get("max_epochs", -1))

    @property
    def max_steps(self) -> int:
        """Number of optimizer steps after which training ends; -1 if `max_epochs` ends it."""
        return int(self.trainer.get("max_steps", -1))

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of 8-bit cells without a window.

        Raises:
            ArgumentError: a value is outside its range.
        """
        return Preprocessing(**{name: self.data[name] for name in _PREPROCESSING if name in self.data})

    @property
    def augmentation(self) -> Augmentation:
        """Random changes of the training cells; no changes if `augment` is false.

        Raises:
            ArgumentError: a value is outside its range.
        """
        return (
            Augmentation(**self.data.get("augmentation", {})) if self.data.get("augment", True) else Augmentation.none()
        )

    def data_arguments(self) -> dict[str, Any]:
        """Return `data` with `augmentation` as the object that `CellDataModule` takes."""
        if not isinstance(self.data.get("augmentation"), dict):
            return dict(self.data)
        return {**self.data, "augmentation": Augmentation(**self.data["augmentation"])}

    def changed(
        self,
        model: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        trainer: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """Return a copy of the recipe with other values of some settings."""
        return replace(
            self,
            model={**self.model, **(model or {})},
            data={**self.data, **(data or {})},
            trainer={**self.trainer, **(trainer or {})},
        )

    def at_size(self, image_size: int) -> Recipe:
        """Return a copy of the recipe for another image size [px]."""
        return self.changed(data={"image_size": image_size})

    def with_model(self, **values: Any) -> Recipe:
        """Return a copy of the recipe with other arguments of the model."""
        return self.changed(model=values)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain types."""
        return asdict(self)


def preset_path(name: str) -> Path:
    """Return the packaged YAML file of a preset.

    Raises:
        ArgumentError: `name` is unknown.
    """
    if name not in PRESETS:
        raise invalid(
            "--preset",
            f"one of {', '.join(PRESETS)}",
            name,
            f"{did_you_mean(name, PRESETS)} Or give a file of your own with --config".strip(),
        )
    return Path(str(importlib.resources.files("fastcell") / "presets" / f"{name}.yaml"))


def read_recipe(preset: str, changes: Sequence[str] = (), select: str | None = None) -> Recipe:
    """Read the recipe of a preset and apply changes such as ``--data.fit contain`` or ``--model.learning_rate=1e-3``.

    Args:
        preset: ``demo``, ``paper``, ``fast`` or ``thorough``.
        changes: arguments as `fastcell fit` takes them.
        select: weights to evaluate; None for the preset's own.

    Raises:
        ArgumentError: a preset or argument is unknown, or a study determines the argument itself.
    """
    settings = yaml.safe_load(preset_path(preset).read_text(encoding="utf-8"))
    parts: dict[str, dict[str, Any]] = {name: dict(settings.get(name, {})) for name in ("model", "data", "trainer")}
    parts["trainer"] = {name: value for name, value in parts["trainer"].items() if name in _TRAINER}
    known = _known_names() if changes else {}
    for name, text in _pairs(changes):
        part, _, key = name.removeprefix("--").partition(".")
        key, _, inner = key.partition(".")
        if part not in parts or key not in known[part] or (inner and key != "augmentation"):
            taken = key in _TAKEN
            names = [f"--{other}.{word}" for other, words in known.items() for word in words]
            near = did_you_mean(name, names).removesuffix("?").replace("Did you mean", "; the nearest name is")
            hint = "The study decides it itself" if taken else f"See fastcell fit --help_all{near}"
            raise invalid("arguments", "those of compare, or --model.*, --data.*, --trainer.* of fit", name, hint)
        value = _value(text)
        if inner:
            parts[part][key] = {**parts[part].get(key, {}), inner: value}
        else:
            parts[part][key] = value
    if select is None:
        select = str(settings.get("select", "best"))
    return Recipe(preset, parts["model"], parts["data"], parts["trainer"], select)


def estimator_recipe(
    preset: str,
    *,
    network: str | None = None,
    learning_rate: float | None = None,
    image_size: int | None = None,
    fit: str | None = None,
    normalization: str | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    augment: bool = True,
) -> Recipe:
    """Read the recipe of a preset with the arguments of the scikit-learn estimator; None keeps the preset's value.

    Raises:
        ArgumentError: the preset is unknown, or a number is not positive.
    """
    if preset not in PRESETS:
        raise invalid("preset", f"one of {', '.join(sorted(PRESETS))}", preset, "Take fast for the modern recipe")
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if value is not None and (isinstance(value, bool) or value != int(value) or value < 1):
            raise invalid(name, "a positive whole number", value, "Leave it out for the preset's")
    model = {"network": network, "learning_rate": None if learning_rate is None else float(learning_rate)}
    data = {
        "image_size": image_size,
        "fit": fit,
        "normalization": normalization,
        "batch_size": None if batch_size is None else int(batch_size),
        "augment": None if augment else False,
    }
    trainer = {} if epochs is None else {"max_epochs": int(epochs), "max_steps": -1}
    return read_recipe(preset).changed(_given(model), _given(data), trainer)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _pairs(changes: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names and values of ``--name value`` and ``--name=value``."""
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
    if isinstance(value, str):  # YAML reads 1e-3, which has no dot, as text
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
