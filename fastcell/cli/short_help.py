"""Help of the commands that Lightning runs, on one screen: the options that people use, with no heavy import."""

from __future__ import annotations

import importlib.resources
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastcell.cli.options import PRESETS

WIDTH = 100
_COLUMN = 48


class ShownOption(NamedTuple):
    """An option in the short help.

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


DESCRIPTIONS = {
    "fit": "Train a classifier and score it on the test subset. The result is a run folder: weights, settings, scores.",
    "validate": "Score a run on the validation subset.",
    "test": "Score a run on the test subset.",
    "predict": "Classify every cell of a data set, labelled or not: one row per cell in manifest order.",
}
USAGES = {
    "fit": "fastcell fit [DATA] [options]",
    "validate": "fastcell validate RUN [DATA] [options]",
    "test": "fastcell test RUN [DATA] [options]",
    "predict": "fastcell predict RUN DATA --out FILE [options]",
}
EXAMPLES = {
    "fit": (
        "fastcell fit cells --preset fast",
        "fastcell fit cells --data.split_name by-group --model.network gao --trainer.max_epochs 20",
    ),
    "validate": ("fastcell validate runs/20260131-142501-demo", "fastcell validate runs/20260131-142501-demo cells"),
    "test": ("fastcell test runs/20260131-142501-demo", "fastcell test runs/20260131-142501-demo cells -o test.csv"),
    "predict": (
        "fastcell predict runs/20260131-142501-demo new-cells --out predictions.parquet",
        "fastcell predict runs/20260131-142501-demo/last.ckpt new-cells --out predictions.fcs --tta true",
    ),
}

_DATA = ShownOption("data.path", "DATA", "the same as the argument DATA")
_SPLIT = ShownOption("data.split_name", "NAME", "which split of the data set", "default")
_MACHINE = [
    ShownOption("trainer.accelerator", "auto|cpu|gpu", "hardware to run on", "auto"),
    ShownOption("trainer.devices", "N", "number of GPUs, or of CPU processes", "auto"),
    ShownOption("trainer.precision", "PRECISION", "32-true, bf16-mixed or 16-mixed (by hardware)"),
    ShownOption("data.threads", "N", "threads for loading; 0: one for each core", 0),
]
_OUT = ShownOption("out", "FILE", "predictions to write, .csv, .parquet or .fcs", short="-o,")
_TTA = ShownOption("tta", "true|false", "average over the four flips of every cell", False)
_EVALUATION = [
    _DATA,
    _SPLIT,
    ShownOption("data.quality", "true|false", "exclude cells that verdicts.csv drops", True),
    ShownOption("data.eval_batch_size", "N", "cells per step and process", 256),
]

GROUPS: dict[str, dict[str, list[ShownOption]]] = {
    "fit": {
        "recipe": [
            ShownOption("preset", "|".join(PRESETS), "packaged settings", "demo"),
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
            ShownOption("select", "best|last", "weights to score: least validation loss, or last", "best"),
            ShownOption("seed_everything", "N", "seed of weights, order and augmentation", 0),
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
        "run": [
            ShownOption("runs", "DIR", "parent folder of the new run folder", "runs", short="-o, --out,"),
            ShownOption("resume", "RUN", "interrupted run to continue in place"),
            ShownOption("ckpt_path", "FILE", "checkpoint to continue from, in a new run"),
            ShownOption("checkpoint_every_minutes", "X", "minutes between resume points", 5.0),
        ],
    },
    "validate": {"scores": [_OUT, _TTA], "data": _EVALUATION, "machine": _MACHINE},
    "test": {"scores": [_OUT, _TTA], "data": _EVALUATION, "machine": _MACHINE},
    "predict": {
        "predictions": [_OUT, _TTA],
        "data": [
            _DATA,
            ShownOption("data.predict_split", "train|valid|test", "classify this subset only"),
            *_EVALUATION[1:],
        ],
        "machine": _MACHINE,
    },
}


def short_help(command: str, arguments: list[str]) -> str:
    """Return the help of a command on one screen.

    Args:
        command: fit, validate, test or predict.
        arguments: behind its name; the defaults that are shown are those of the ``--preset`` among them.
    """
    preset = _preset_settings(_named_preset(arguments)) if command == "fit" else {}
    positional = {"DATA": "folder made by pack, index or synth"}
    if command == "fit":
        positional["DATA"] += " (8,000 simulated cells)"
    else:
        positional = {"RUN": "run folder of fastcell fit, or a checkpoint", **positional}
        positional["DATA"] += " (the one of the run)"
    lines = [f"usage: {USAGES[command]}", "", DESCRIPTIONS[command], ""]
    lines += [_line(name, text) for name, text in positional.items()]
    for title, options in GROUPS[command].items():
        lines += ["", f"{title}:"]
        for option in options:
            default = preset.get(option.name, option.default)
            shown = "" if default is None else f" ({str(default).lower() if isinstance(default, bool) else default})"
            name = f"{option.short} --{option.name} {option.kind}".strip()
            lines.append(_line(name, option.text + shown))
    lines += ["", "examples:", *(f"  {example}" for example in EXAMPLES[command])]
    lines.append("")
    if command == "fit":
        lines.append(f"Defaults are those of --preset {_named_preset(arguments)}.")
    lines.append(f"All options: fastcell {command} --help_all")
    return "\n".join(lines)


def _line(name: str, text: str) -> str:
    if len(name) + 4 > _COLUMN:
        return f"  {name}\n{'':{_COLUMN}}{text}"
    return f"  {name:<{_COLUMN - 2}}{text}"


def _named_preset(arguments: list[str]) -> str:
    """Return the preset that the arguments name, or the default one."""
    words = " ".join(arguments).replace("=", " ").split()
    named = [after for word, after in itertools.pairwise(words) if word == "--preset"]
    return named[-1] if named and named[-1] in PRESETS else PRESETS[0]


def _preset_settings(name: str) -> Mapping[str, Any]:
    """Return the settings of a packaged preset by dotted name."""
    import yaml

    text = (importlib.resources.files("fastcell") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    for part, values in yaml.safe_load(text).items():
        if isinstance(values, dict):
            found.update({f"{part}.{key}": value for key, value in values.items()})
        else:
            found[part] = values
    return found
