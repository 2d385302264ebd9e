"""User-defined parts on the command line of ``fit``: a class path and its arguments become one value.

``--model.network my_package.Net --model.network.width 32`` becomes ``--model.network`` with ``class_path`` and
``init_args``, the form of Lightning's command line. ``--model.network.init_args.width 32`` is also accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fastcell.errors import ArgumentError
from fastcell.system.own_parts import own_part

PARTS = ("--model.network", "--model.loss", "--data.batch_augmentation")
LISTS = ("--model.metrics",)
_OPTION = re.compile("--?[A-Za-z]")
# Class paths that fastcell itself writes into the settings of a run.
_OURS = ("fastcell.", "pytorch_lightning.", "torchmetrics.", "torch.")


def join_class_paths(words: Sequence[str]) -> list[str]:
    """Return the arguments of ``fit``, with each user-defined part and its arguments joined into one option.

    Args:
        words: unparsed arguments.
    """
    rest, found = list(words), []
    given: dict[str, dict[str, Any]] = {}
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        part = next((each for each in PARTS if name == each or name.startswith(f"{each}.")), None)
        if part is None and name not in LISTS:
            found.append(word)
            continue
        if not equals:
            if not rest or _OPTION.match(rest[0]):
                found.append(word)  # the parser says that the value is missing
                continue
            value = rest.pop(0)
        if part is None:
            found.append(f"{name}={value if value.lstrip().startswith('[') else json.dumps(value.split(','))}")
        else:
            _take(given, part, name.removeprefix(part).removeprefix("."), value)
    return [*found, *(f"{part}={_value_of(values)}" for part, values in given.items())]


def _take(given: dict[str, dict[str, Any]], part: str, key: str, value: str) -> None:
    """Add a value to a part: its class path, or one of its arguments."""
    if key in ("", "class_path") and own_part(value, "part") is not None:
        given.setdefault(part, {})["class_path"] = value
    elif key in ("", "class_path"):
        given[part] = {"class_path": value}
    else:
        argument = key.removeprefix("init_args.")
        given.setdefault(part, {}).setdefault("init_args", {})[argument] = yaml.safe_load(value)


def _value_of(values: dict[str, Any]) -> str:
    """Return the value for the parser: a plain name, or a part as JSON."""
    path = values.get("class_path", "")
    if own_part(path, "part") is None and "init_args" not in values:
        return str(path)
    return json.dumps(values)


def check_parts_of_run(config: Path, words: Sequence[str], trust: Sequence[str]) -> None:
    """Before a run is resumed, check that all code named in its settings belongs to fastcell or is trusted.

    Args:
        config: config.yaml of the run.
        words: arguments of the command; parts that they name are trusted.
        trust: further trusted packages.

    Raises:
        ArgumentError: the settings name other code.
    """
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return  # the parser says what is wrong with the file
    for path in _paths_in(values):
        package = path.partition(".")[0]
        known = path.startswith(_OURS) or any(path.startswith(f"{name}.") for name in trust)
        if not known and not any(path in word for word in words):
            raise ArgumentError(
                f"{config} names code from outside fastcell ({path}), which is not imported without permission. If you "
                f"trust it, name its package: --trust {package}."
            )


def _paths_in(values: Any) -> Iterator[str]:
    """Yield the class paths in settings: names of user-defined parts, and values of keys `class_path`."""
    if isinstance(values, Mapping):
        sections = [values.get(name) for name in ("model", "data")]
        model, data = (section if isinstance(section, Mapping) else {} for section in sections)
        named = [model.get("network"), model.get("loss"), *(model.get("metrics") or []), data.get("batch_augmentation")]
        yield from (value for value in named if isinstance(value, str) and own_part(value, "part") is not None)
    yield from _keyed(values)


def _keyed(values: Any) -> Iterator[str]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            if key == "class_path" and isinstance(value, str):
                yield value
            yield from _keyed(value)
    elif isinstance(values, list):
        for value in values:
            yield from _keyed(value)
