"""Code that users bring, as a run that goes on must find it again: a hash of the modules that define its parts."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fastcell.errors import ArgumentError
from fastcell.models.registry import module_of_network
from fastcell.system.own_parts import import_package, own_part

_ARGUMENTS = ("model.network", "model.loss", "model.metrics", "data.batch_augmentation")
_LIBRARIES = ("fastcell", "torch", "torchmetrics", "timm", "torchvision", "pytorch_lightning", "lightning")


def code_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash of the module of each own part of the settings, by the argument and the name of the part.

    Comments and layout of a source do not count. A part of a library, and one without a source, is left out. The
    modules are imported.

    Args:
        settings: settings of ``fit`` by dotted name.

    Raises:
        ArgumentError: a module cannot be imported.
    """
    found = {}
    for title, module in _parts(settings):
        if module.partition(".")[0] not in _LIBRARIES and (digest := _hash_of_module(module)) is not None:
            found[title] = digest
    return found


def check_code(saved: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    """Check that the own parts of a resumed run are those with which it was trained.

    Args:
        saved: result of `code_of` in the run; empty for a run of an earlier version.
        settings: settings of ``fit`` by dotted name.

    Raises:
        ArgumentError: the module of a part is another one.
    """
    for title, digest in code_of(settings).items():
        if saved.get(title, digest) != digest:
            raise ArgumentError(
                f"the code of {title} must be as in the run that is resumed, but its module has changed since. Restore "
                "it, or start a new run."
            )


def _parts(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield argument with name, and the module, of each part that a user brings."""
    for argument in _ARGUMENTS:
        value = settings.get(argument)
        for each in value if isinstance(value, list) else [value]:
            part = own_part(each, argument)
            if part is not None:
                yield f"--{argument} {part.class_path}", part.class_path.rpartition(".")[0]
            elif argument == "model.network" and (module := module_of_network(str(each))) is not None:
                yield f"--{argument} {each}", module


def _hash_of_module(name: str) -> str | None:
    try:
        place = inspect.getsourcefile(import_package(name, "model or data"))
        tree = ast.dump(ast.parse(Path(place or "").read_bytes()))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    return blake2b(tree.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
