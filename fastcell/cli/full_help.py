"""Help of all options of ``fit``, ``validate``, ``test`` and ``predict``, laid out as the short help."""

from __future__ import annotations

import re
import typing
from typing import Any

from fastcell.cli.help_page import Row, default_text, lay_out
from fastcell.cli.lightning_options import GROUPS, ShownOption, own_arguments
from fastcell.cli.short_help import DESCRIPTIONS, EXAMPLES, USAGES, placed_arguments
from fastcell.cli.signature import choices_of, parts_of
from fastcell.cli.trainer_names import trainer_choices

_WORDS = {bool: "true|false", int: "N", float: "X", str: "TEXT"}
_HIDDEN = "==SUPPRESS=="
_NAMED = {
    "trainer.accelerator": "hardware to run on",
    "trainer.strategy": "strategy of training on several devices, or a class",
    "trainer.gradient_clip_algorithm": "clip gradients by norm or by value, with gradient_clip_val",
    "trainer.profiler": "measure the time of the steps of training, or a class",
}
_TITLES = ("data.augmentation", "data", "model", "trainer")


def full_help(command: str, parser: Any) -> str:
    """Return the help of a command with all its options.

    Args:
        command: fit, validate, test or predict.
        parser: its parser, a `LightningArgumentParser`.
    """
    groups: dict[str, list[Row]] = {}
    defaults = _flat(parser.get_defaults().as_dict())
    shown = _shown_options(command)
    for action in parser._actions:
        if action.dest.endswith("help") or action.help == _HIDDEN or not action.option_strings[0].startswith("-"):
            continue
        title = next((title for title in _TITLES if action.dest.startswith((f"{title}.", title))), "options")
        option = shown.get(action.dest)
        value = option.kind if option else _value(action)
        names = sorted(action.option_strings, key=lambda name: name.startswith("--"))
        spelled = ", ".join(name for name in names if not name.endswith("+"))
        told_there = action.dest.startswith(("model.", "data.")) and action.dest not in _TITLES
        text = plain_text(action.help or "") if option is None or told_there else option.text
        row = f"{spelled} {value}".strip(), text + default_text(defaults.get(action.dest))
        groups.setdefault(title, []).append(row)
    closing = ["Defaults, with the preset applied, are in parentheses."]
    page = (USAGES[command], DESCRIPTIONS[command], placed_arguments(command))
    return lay_out(*page, groups, "", EXAMPLES[command], closing, widest=34) + "\n"


def _shown_options(command: str) -> dict[str, ShownOption]:
    """Return kinds and texts that stand here rather than in a docstring, by dotted name."""
    names = {name: ShownOption(name, "|".join(values), _NAMED[name]) for name, values in trainer_choices().items()}
    known = [option for options in GROUPS[command].values() for option in options if isinstance(option, ShownOption)]
    own = own_arguments(command).items()
    return {
        **names,
        **{option.name: option for option in known},
        **{name: ShownOption(name, argument.value or "true|false", argument.text) for name, argument in own},
        **{name: ShownOption(name, "FILE", "YAML file of these settings") for name in _TITLES},
        "print_config": ShownOption("print_config", "", "print all settings as YAML, with those given, and exit"),
    }


def _value(action: Any) -> str:
    """Return a placeholder of the value of an option."""
    hint = getattr(action, "_typehint", None)
    if hint is None:
        return "" if action.nargs == 0 else "FILE"
    words = []
    for part in parts_of(hint):
        inner = typing.get_origin(part) in (list, tuple)
        words += choices_of(part) or ["[X,...]" if inner else _WORDS.get(part, "CLASS")]
    return "|".join(dict.fromkeys(words))


def plain_text(text: str) -> str:
    """Return the text of a docstring without markup, the default that it repeats, and the full stop; null for None."""
    text = re.sub(r":\w+:`~?\.?([^`]*)`", lambda found: found[1].rpartition(".")[2], " ".join(text.split()))
    text = re.sub(r"`+([^`]*)`+_?", r"\1", text)
    text = re.sub(r" Default: .*$", "", text).removesuffix(".")
    return re.sub(r"\bNone\b", "null", text)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return values by dotted name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
