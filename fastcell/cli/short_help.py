"""Short help of Lightning's commands with the most used options, made without heavy imports."""

from __future__ import annotations

import importlib.resources
import itertools
from collections.abc import Mapping
from typing import Any

from fastcell.cli.class_arguments import first_sentence, plain_text
from fastcell.cli.help_page import Row, default_text, lay_out
from fastcell.cli.lightning_options import GROUPS, listed_options
from fastcell.cli.options import PRESETS

DESCRIPTIONS = {
    "fit": "Train a classifier, score it on the test subset, and write a run folder: weights, settings, scores.",
    "validate": "Score a run on the validation subset.",
    "test": "Score a run on the test subset.",
    "predict": "Classify every cell of a data set or of files, labelled or not: one row per cell, in order of packing.",
}
_FILES = {"predict": ", or files that pack reads"}
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
    "validate": (
        "fastcell validate runs/20260131-142501-donors-cellnet",
        "fastcell validate runs/20260131-142501-donors-cellnet cells",
    ),
    "test": (
        "fastcell test runs/20260131-142501-donors-cellnet",
        "fastcell test runs/20260131-142501-donors-cellnet cells -o test.csv",
    ),
    "predict": (
        "fastcell predict runs/20260131-142501-donors-cellnet new-cells --out predictions.parquet",
        "fastcell predict runs/20260131-142501-donors-cellnet recording.rtdc -o recording.fcs --tta true",
    ),
}


def short_help(command: str, arguments: list[str]) -> str:
    """Return the help of a command on one screen.

    Args:
        command: fit, validate, test or predict.
        arguments: words after the name of the command. The defaults shown are those of the ``--preset`` among them.
    """
    preset = _preset_settings(_named_preset(arguments)) if command == "fit" else {}
    options = listed_options(command)
    groups: dict[str, list[Row]] = {}
    for title, names in GROUPS[command].items():
        groups[title] = [
            (
                f"{options[name].names} {options[name].value}",
                first_sentence(plain_text(options[name].text)) + default_text(preset.get(name, options[name].default)),
            )
            for name in names
        ]
    closing = [f"All options: fastcell {command} --help_all"]
    if command == "fit":
        closing.insert(0, f"The defaults are those of --preset {_named_preset(arguments)}.")
    placed = placed_arguments(command)
    return lay_out(USAGES[command], DESCRIPTIONS[command], placed, groups, "", EXAMPLES[command], closing, widest=40)


def placed_arguments(command: str) -> list[Row]:
    """Return the positional arguments of a command."""
    if command == "fit":
        return [("DATA", "packed data set [default: 8,000 simulated cells]")]
    default = "" if command == "predict" else " [default: data set of the run]"
    return [
        ("RUN", "run folder of fastcell fit, or a checkpoint in it"),
        ("DATA", f"folder made by pack, index or synth{_FILES.get(command, '')}{default}"),
    ]


def _named_preset(arguments: list[str]) -> str:
    """Return the preset in the arguments, or the default one."""
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
