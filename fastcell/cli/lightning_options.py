"""Options of ``fit``, ``validate``, ``test``, ``predict``: their own, and those of Lightning that people use."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from fastcell.cli.options import OutFile, Preset
from fastcell.cli.signature import REQUIRED, Argument, Spelled, arguments_of_group

LIGHTNING_COMMANDS = ("fit", "validate", "test", "predict")


class FitArguments(NamedTuple):
    """Options of ``fastcell fit`` that Lightning does not have.

    Attributes:
        preset: packaged settings
        runs: parent folder of the new run folder
        resume: interrupted run to continue in place
        ckpt_path: checkpoint to continue from, in a new run
        start_from: run or checkpoint whose weights a new run starts from
        freeze: parts that are not trained, with commas between, or all-but-head
        checkpoint_every_steps: steps between resume points; null: none
        checkpoint_every_minutes: minutes between resume points; null: none
        select: weights to score: lowest validation loss, or last
        allow_absent: train even if a subset lacks a class, or class and recording cannot be told apart
    """

    preset: Preset = "demo"
    runs: Annotated[str, Spelled("DIR", also=("-o", "--out"))] = "runs"
    resume: Annotated[str | None, Spelled("RUN")] = None
    ckpt_path: Annotated[str | None, Spelled("FILE")] = None
    start_from: Annotated[str | None, Spelled("RUN")] = None
    freeze: Annotated[str | None, Spelled("PARTS")] = None
    checkpoint_every_steps: int | None = None
    checkpoint_every_minutes: float | None = 5.0
    select: Literal["best", "last"] = "best"
    allow_absent: bool = False


class ScoreArguments(NamedTuple):
    """Options of ``fastcell validate``, ``test`` and ``predict`` that Lightning does not have.

    Attributes:
        ckpt_path: the same as the argument RUN
        out: predictions to write, .csv, .parquet or .fcs
        tta: average over the four flips of every cell
    """

    ckpt_path: Annotated[str, Spelled("RUN")]
    out: OutFile = None
    tta: bool = False


def own_arguments(command: str) -> dict[str, Argument]:
    """Return the options of a command that Lightning does not have, by name.

    Args:
        command: fit, validate, test or predict.
    """
    kind = FitArguments if command == "fit" else ScoreArguments
    own = {argument.dest: argument for argument in arguments_of_group("own", kind)}
    if command == "predict":
        own["out"] = own["out"]._replace(hint=str, default=REQUIRED)
    return own


class ShownOption(NamedTuple):
    """An option of Lightning, of the model or of the data in the short help.

    Attributes:
        name: as it is written, without ``--``.
        kind: what the value is: choices with ``|`` between, or a word in capitals.
        text: what it decides.
        default: None where there is none to be shown.
        short: other spellings, in front of the name.
    """

    name: str
    kind: str
    text: str
    default: Any = None
    short: str = ""


_DATA = ShownOption("data.path", "DATA", "the same as the argument DATA")
_SPLIT = ShownOption("data.split_name", "NAME", "split of the data set", "default")
_MACHINE: list[ShownOption | str] = [
    ShownOption("trainer.accelerator", "auto|cpu|gpu", "hardware to run on", "auto"),
    ShownOption("trainer.devices", "N", "number of GPUs, or of CPU processes", "auto"),
    ShownOption("trainer.precision", "PRECISION", "32-true, bf16-mixed or 16-mixed (by hardware)"),
    ShownOption("data.threads", "N", "loading threads; 0: one per CPU", 0),
]
_EVALUATION: list[ShownOption | str] = [
    _DATA,
    _SPLIT,
    ShownOption("data.quality", "true|false", "exclude cells that verdicts.csv drops", True),
    ShownOption("data.eval_batch_size", "N", "cells per step and process", 256),
]

GROUPS: dict[str, dict[str, list[ShownOption | str]]] = {
    "fit": {
        "recipe": [
            "preset",
            ShownOption("config", "FILE", "YAML file of settings that override the preset", short="-c,"),
            ShownOption("model.network", "NAME", "network of fastcell or timm", "cellnet"),
            ShownOption("model.loss", "cross_entropy|mse|sigmoid", "loss function", "cross_entropy"),
            ShownOption("model.optimizer", "adam|adamw", "optimizer", "adam"),
            ShownOption("model.learning_rate", "X", "peak learning rate", 1e-3),
            ShownOption(
                "model.schedule", "constant|cosine|one_cycle|exponential", "learning-rate schedule", "constant"
            ),
            ShownOption("trainer.max_epochs", "N", "epochs to train", None),
            ShownOption("trainer.max_steps", "N", "limit of optimizer steps; -1: none", -1),
            "select",
            ShownOption("seed_everything", "N", "random seed of weights, order and augmentation", 0),
        ],
        "data": [
            _DATA,
            _SPLIT,
            ShownOption("data.image_size", "PX", "side of the square images", 128),
            ShownOption("data.fit", "stretch|contain|scale", "how a cell is fitted into the square image", "stretch"),
            ShownOption("data.normalization", "divide|subtract|standardize", "intensity normalisation", "divide"),
            ShownOption("data.batch_size", "N", "cells per training step", 256),
            ShownOption("data.balance", "none|oversample|weights", "treatment of rare classes", "none"),
            ShownOption("data.augment", "true|false", "random augmentation of training cells", True),
            ShownOption("data.subsample", "SHARE|N", "share or number of training cells to use"),
            ShownOption("data.store", "auto|stream|bank", "stream from disk, or keep cells in memory", "auto"),
        ],
        "machine": _MACHINE,
        "run": ["runs", "resume", "ckpt_path", "start_from", "freeze", "checkpoint_every_minutes"],
    },
    "validate": {"scores": ["out", "tta"], "data": _EVALUATION, "machine": _MACHINE},
    "test": {"scores": ["out", "tta"], "data": _EVALUATION, "machine": _MACHINE},
    "predict": {
        "predictions": ["out", "tta"],
        "data": [
            _DATA,
            ShownOption("data.predict_split", "train|valid|test", "classify this subset only"),
            *_EVALUATION[1:],
        ],
        "machine": _MACHINE,
    },
}
"""Options in the short help: own ones by name."""
