"""Options of ``fit``, ``validate``, ``test``, ``predict``: their own, Lightning's, and which the short help lists.

The options ``--model.*`` and ``--data.*`` are the arguments of `CellModule` and `CellDataModule`, whose docstrings hold
their texts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from fastcell.cli.class_arguments import arguments_of_class
from fastcell.cli.options import OutFile, Preset, ReadingArguments, Window
from fastcell.cli.signature import REQUIRED, Argument, Spelled, arguments_of_group, folded
from fastcell.cli.trainer_options import TrainerArguments
from fastcell.inference.backends.programs import BackendChoice, PrecisionChoice

LIGHTNING_COMMANDS = ("fit", "validate", "test", "predict")


class FitArguments(NamedTuple):
    """Options of ``fastcell fit`` that Lightning does not have.

    Attributes:
        preset: packaged settings
        runs: parent folder of the new run folder
        resume: interrupted run to continue in place
        ckpt_path: checkpoint to continue from, in a new run
        start_from: run or file of weights that a new run starts from
        freeze: parts of the network that are not trained, separated by commas, or all-but-head
        teacher: run or checkpoint whose class probabilities the network learns in addition to the labels
        teacher_temperature: temperature of the compared probabilities; values above 1 give unlikely classes more weight
        teacher_share: weight of the teacher in the loss, above 0 and at most 1; the labels have the rest
        checkpoint_every_steps: optimizer steps between two resume points; null for none
        checkpoint_every_minutes: minutes between two resume points; null for none
        select: weights to score; best: of the lowest validation loss
        trust: packages to import first, separated by commas, which may register networks
        allow_absent: train even if a subset lacks a class, or class and recording cannot be told apart
    """

    preset: Preset = "demo"
    runs: Annotated[str, Spelled("DIR", also=("-o", "--out"))] = "runs"
    resume: Annotated[str | None, Spelled("RUN")] = None
    ckpt_path: Annotated[str | None, Spelled("FILE")] = None
    start_from: Annotated[str | None, Spelled("RUN")] = None
    freeze: Annotated[str | None, Spelled("PARTS")] = None
    teacher: Annotated[str | None, Spelled("RUN")] = None
    teacher_temperature: float = 2.0
    teacher_share: float = 0.7
    checkpoint_every_steps: int | None = None
    checkpoint_every_minutes: float | None = 5.0
    select: Literal["best", "last"] = "best"
    trust: Annotated[str | None, Spelled("PACKAGES")] = None
    allow_absent: bool = False


class ScoreArguments(NamedTuple):
    """Options of ``fastcell validate`` and ``test`` that Lightning does not have.

    Attributes:
        ckpt_path: the same as the argument RUN
        out: file of predictions to write: .csv, .parquet or .fcs
        tta: average the predictions over the four flips of every cell [default: as in training]
        trust: packages whose code the network of the run may import, separated by commas
    """

    ckpt_path: Annotated[str, Spelled("RUN")]
    out: OutFile = None
    tta: bool | None = None
    trust: Annotated[str | None, Spelled("PACKAGES")] = None


class FileArguments(NamedTuple):
    """Options of ``fastcell predict`` for files that are not packed, beside those of `ReadingArguments`.

    Attributes:
        pattern: position of class and group in the paths, as of pack, such as '{group}/{name}'
        window: grey levels that become black and white, for 16-bit images [default: those of the run]
        um_per_px: pixel size of cells whose file does not give one [um per pixel]
    """

    pattern: Annotated[str | None, Spelled("P")] = None
    window: Window = None
    um_per_px: float | None = None


class BackendArguments(NamedTuple):
    """Options of ``fastcell predict`` for the program that runs the network.

    Attributes:
        backend: program that runs the network; auto: the fastest that agrees with torch [default: earlier choice of
            auto for this run, else torch]
        precision: arithmetic of the network; auto: the fastest that agrees with torch
        engine: workers that classify, with a backend other than torch: loky, processes of this machine; dask, those of
            a cluster
        scheduler: address of the Dask scheduler, tcp://HOST:8786 [default: workers here]
    """

    backend: BackendChoice | None = None
    precision: PrecisionChoice = "auto"
    engine: Literal["loky", "dask"] | None = None
    scheduler: Annotated[str | None, Spelled("ADDRESS")] = None


class PredictArguments(NamedTuple):
    """Options of ``fastcell predict`` that Lightning does not have.

    Attributes:
        ckpt_path: the same as the argument RUN
        out: file of predictions to write: .csv, .parquet or .fcs
        tta: average the predictions over the four flips of every cell [default: as in training]
        min_confidence: minimum confidence of a prediction, 0 to 1; cells with less are unsure
        accuracy: accuracy to reach, such as 0.95; sets the minimum confidence so that predictions for validation cells
            have this accuracy
        trust: packages whose code the network of the run may import, separated by commas
    """

    ckpt_path: Annotated[str, Spelled("RUN")]
    out: OutFile = None
    tta: bool | None = None
    min_confidence: float | None = None
    accuracy: float | None = None
    trust: Annotated[str | None, Spelled("PACKAGES")] = None


class LightningArguments(NamedTuple):
    """Options of Lightning's command line.

    Attributes:
        config: YAML file of settings that override the preset
        print_config: print all settings as YAML, including the given options, and exit
        seed_everything: random seed of weights, order and augmentation
    """

    config: Annotated[str | None, Spelled("FILE", also=("-c",))] = None
    print_config: bool = False
    seed_everything: int = 0


def own_arguments(command: str) -> dict[str, Argument]:
    """Return the options of a command that fastcell adds to Lightning's, by name.

    Args:
        command: fit, validate, test or predict.
    """
    kinds = {"fit": FitArguments, "predict": PredictArguments}
    own = {argument.dest: argument for argument in arguments_of_group("own", kinds.get(command, ScoreArguments))}
    if command == "predict":
        own["out"] = own["out"]._replace(hint=str, default=REQUIRED)
        for group in (BackendArguments, FileArguments, ReadingArguments):
            own |= {argument.dest: argument for argument in arguments_of_group("own", group)}
    return own


class ListedOption(NamedTuple):
    """An option as help texts list it.

    Attributes:
        names: its spellings, short ones first.
        value: choices with ``|`` between, or a placeholder; empty if it takes no value.
        text: help text; the short help shows its first sentence.
        default: default value; None if none is shown.
    """

    names: str
    value: str
    text: str
    default: Any


def listed_options(command: str) -> dict[str, ListedOption]:
    """Return the options of a command by dotted name, including Lightning's options with a text of fastcell's.

    Args:
        command: fit, validate, test or predict.
    """
    return {
        **_listed_of("", {argument.dest: argument for argument in arguments_of_group("", LightningArguments)}),
        **_listed_of("", own_arguments(command)),
        **_listed_of("trainer.", {argument.dest: argument for argument in arguments_of_group("", TrainerArguments)}),
        **_listed_of("model.", arguments_of_class("fastcell.models.lightning_module", "CellModule")),
        **_listed_of("data.", arguments_of_class("fastcell.loading.datamodule", "CellDataModule")),
    }


def _listed_of(section: str, arguments: dict[str, Argument]) -> dict[str, ListedOption]:
    return {f"{section}{name}": _listed(section, argument) for name, argument in arguments.items()}


def _listed(section: str, argument: Argument) -> ListedOption:
    dotted = f"{section}{argument.dest}"
    names = f"--{dotted}" if section else ", ".join(folded(name) for name in argument.shown_spellings)
    value = _PLACEHOLDERS.get(dotted) or argument.value or "true|false"
    default = None if argument.default is REQUIRED else argument.default
    if dotted == "print_config":
        value, default = "", None
    return ListedOption(names, value, argument.text, default)


_PLACEHOLDERS = {
    "model.network": "NAME",
    "model.betas": "[X,...]",
    "model.part_learning_rates": "{NAME: X,...}",
    "data.path": "DATA",
    "data.split_name": "NAME",
    "data.image_size": "PX",
    "data.subsample": "SHARE|N",
}
"""Placeholders that are more informative than the types of the values."""

_MACHINE = ["trainer.accelerator", "trainer.devices", "trainer.precision", "data.threads"]
_EVALUATION = ["data.split_name", "data.quality", "data.eval_batch_size"]

GROUPS: dict[str, dict[str, list[str]]] = {
    "fit": {
        "recipe": [
            "preset",
            "config",
            "model.network",
            "model.loss",
            "model.optimizer",
            "model.learning_rate",
            "model.schedule",
            "trainer.max_epochs",
            "trainer.max_steps",
            "select",
            "seed_everything",
        ],
        "data": [
            "data.split_name",
            "data.image_size",
            "data.fit",
            "data.normalization",
            "data.batch_size",
            "data.balance",
            "data.augment",
            "data.subsample",
            "data.store",
        ],
        "machine": _MACHINE,
        "run": ["runs", "resume", "ckpt_path", "start_from", "freeze", "checkpoint_every_minutes"],
    },
    "validate": {"scores": ["out", "tta", "trust"], "data": _EVALUATION, "machine": _MACHINE},
    "test": {"scores": ["out", "tta", "trust"], "data": _EVALUATION, "machine": _MACHINE},
    "predict": {
        "predictions": ["out", "tta", "min_confidence", "accuracy", "trust"],
        "network": ["backend", "precision"],
        "files that are not packed": ["pattern", "format", "table", "window", "um_per_px"],
        "data": ["data.predict_split", *_EVALUATION],
        "machine": _MACHINE,
    },
}
"""Options in the short help by dotted name, in groups."""
