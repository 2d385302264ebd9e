"""Help of all options of ``fit``, ``validate``, ``test`` and ``predict``, in the layout of the short help."""

from __future__ import annotations

import typing
from typing import Any

from fastcell.cli.class_arguments import plain_text
from fastcell.cli.help_page import Row, default_text, lay_out
from fastcell.cli.lightning_options import ListedOption, listed_options
from fastcell.cli.short_help import DESCRIPTIONS, EXAMPLES, USAGES, placed_arguments
from fastcell.cli.signature import choices_of, parts_of
from fastcell.cli.trainer_names import trainer_choices

_WORDS = {bool: "true|false", int: "N", float: "X", str: "TEXT"}
_HIDDEN = "==SUPPRESS=="
_TITLES = ("data.augmentation", "data", "model", "trainer")


def full_help(command: str, parser: Any) -> str:
    """Return the help of a command with all its options.

    Args:
        command: fit, validate, test or predict.
        parser: its parser, a `LightningArgumentParser`.
    """
    groups: dict[str, list[Row]] = {}
    defaults = _flat(parser.get_defaults().as_dict())
    listed = listed_options(command)
    names = {name: "|".join(values) for name, values in trainer_choices().items() if name != "trainer.accelerator"}
    for action in parser._actions:
        if action.dest.endswith("help") or action.help == _HIDDEN or not action.option_strings[0].startswith("-"):
            continue
        title = next((title for title in _TITLES if action.dest.startswith((f"{title}.", title))), "options")
        option = (None if action.dest in _TITLES else listed.get(action.dest)) or _unlisted(action)
        row = f"{option.names} {names.get(action.dest, option.value)}".strip(), plain_text(option.text)
        groups.setdefault(title, []).append((row[0], row[1] + default_text(defaults.get(action.dest))))
    closing = ["The defaults include those of the preset."] if command == "fit" else []
    page = (USAGES[command], DESCRIPTIONS[command], placed_arguments(command))
    return lay_out(*page, groups, "", EXAMPLES[command], closing, widest=34) + "\n"


def _unlisted(action: Any) -> ListedOption:
    """Return an option without a help text in fastcell: of the augmentation, or of another version of Lightning."""
    text = "YAML file of these settings" if action.dest in _TITLES else action.help or ""
    spelled = [name for name in action.option_strings if not name.endswith("+")]
    return ListedOption(", ".join(spelled), _value(action), text, None)


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


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return values by dotted name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
