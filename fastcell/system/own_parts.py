"""User-defined networks, losses, metrics and augmentations: classes or functions given by class path, with arguments.

A part is written as in Lightning's command line: ``{"class_path": "my_package.Net", "init_args": {"width": 32}}``, or
``"my_package.Net"`` alone. A checkpoint names its parts; their code is imported only if the user names its package.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from fastcell.errors import ArgumentError, did_you_mean, invalid

PartSpec = str | dict[str, Any]
"""A part by class path; a dictionary has `class_path` and `init_args`."""

_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
# Classes of these modules do no more than compute. One name behind the module: no way through to other modules.
_KNOWN = re.compile(r"(?:torch\.nn|torchmetrics\.classification)\.[A-Za-z_]\w*")


class OwnPart(NamedTuple):
    """A part by class path.

    Attributes:
        class_path: module and name, with dots between.
        init_args: arguments by name.
    """

    class_path: str
    init_args: dict[str, Any]

    @property
    def name(self) -> str:
        """Name without the module."""
        return self.class_path.rpartition(".")[2]


def own_part(value: Any, argument: str) -> OwnPart | None:
    """Return the part that a value names by class path; None for a plain name.

    Raises:
        ArgumentError: a dictionary has other keys than `class_path` and `init_args`.
    """
    if isinstance(value, Mapping):
        path, given = value.get("class_path"), value.get("init_args") or {}
        others = sorted(set(map(str, value)) - {"class_path", "init_args", "dict_kwargs"})
        if others or not isinstance(path, str) or not _PATH.fullmatch(path) or not isinstance(given, Mapping):
            rule = "a name, or class_path (such as my_package.Net) with init_args"
            raise invalid(argument, rule, dict(value), "Correct it")
        return OwnPart(path, {str(name): each for name, each in given.items()})
    if isinstance(value, str) and _PATH.fullmatch(value):
        return OwnPart(value, {})
    return None


def part_name(value: Any) -> str:
    """Return a short name of a part for titles and file names: that of the class, or the name itself."""
    path = value.get("class_path") if isinstance(value, Mapping) else value
    return str(path).rpartition(".")[2] if _PATH.fullmatch(str(path)) else str(path)


def import_part(part: OwnPart, argument: str) -> Any:
    """Return the class or function of a part, importing its module; the working folder is searched last.

    Raises:
        ArgumentError: there is no such module, or nothing callable of that name in it.
    """
    module_name, _, name = part.class_path.rpartition(".")
    module = import_package(module_name, argument)
    found = getattr(module, name, None)
    if not callable(found):
        names = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        hint = did_you_mean(name, names).rstrip("?") or f"Write the name of a class or function of {module_name}"
        raise invalid(argument, "a class or function that can be imported", part.class_path, hint)
    return found


def import_package(name: str, argument: str) -> Any:
    """Import a module by name; the working folder is searched last.

    Raises:
        ArgumentError: it cannot be imported.
    """
    folder = os.getcwd()  # noqa: PTH109  (as sys.path holds it)
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        rule = "of a package that can be imported"
        raise invalid(argument, rule, name, f"{reason}. Install it, or run this in the folder that holds it") from error


def build_part(part: OwnPart, argument: str, offered: Mapping[str, Any]) -> Any:
    """Call the class or function of a part with its arguments.

    Args:
        part: the part.
        argument: name of the argument for messages, such as ``network``.
        offered: further arguments that are passed if the part has them and `init_args` does not set them.

    Raises:
        ArgumentError: it cannot be imported, does not take an argument, or fails.
    """
    return call_with(import_part(part, argument), part, argument, offered)


def usable_part(part: OwnPart, argument: str, offered: Mapping[str, Any]) -> Any:
    """Return an object of the class of a part, or its function with `init_args` bound to it.

    Raises:
        ArgumentError: as `build_part`.
    """
    found = import_part(part, argument)
    if isinstance(found, type):
        return call_with(found, part, argument, offered)
    return partial(found, **part.init_args) if part.init_args else found


def call_with(build: Callable[..., Any], part: OwnPart, argument: str, offered: Mapping[str, Any]) -> Any:
    """Call a class or function with the arguments of a part, and with those of `offered` that it takes.

    Raises:
        ArgumentError: it does not take an argument, or fails.
    """
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(build).parameters
    except (TypeError, ValueError):  # a callable without a signature
        parameters = {}
    takes_any = any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values())
    for name in part.init_args:
        if parameters and name not in parameters and not takes_any:
            hint = did_you_mean(name, list(parameters)).rstrip("?") or f"It takes {', '.join(parameters) or 'none'}"
            raise invalid(f"init_args of {argument}", f"arguments of {part.class_path}", name, hint)
    given = {name: value for name, value in offered.items() if name in parameters}
    try:
        return build(**{**given, **part.init_args})
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ArgumentError(
            f"{argument} {part.class_path} could not be built: {type(error).__name__}: {reason}. Correct its init_args "
            "or its code."
        ) from error


def import_trusted(packages: Sequence[str]) -> None:
    """Import packages that the user trusts, so that they can register networks.

    Raises:
        ArgumentError: one cannot be imported.
    """
    for name in packages:
        if not re.fullmatch(r"[A-Za-z_]\w*(?:\.\w+)*", name):
            raise invalid("trust", "the name of a package", name, "Write it as in an import: my_package")
        import_package(name, "trust")


def check_trusted(hparams: Mapping[str, Any], trust: Sequence[str], where: str) -> None:
    """Check that each part of a checkpoint belongs to fastcell, to torch, or to a package that the user trusts.

    Args:
        hparams: arguments of the model, from an untrusted file.
        trust: packages.
        where: name of the checkpoint for the message.

    Raises:
        ArgumentError: a part belongs to another package. Nothing is imported.
    """
    for argument in ("network", "loss", "metrics"):
        value = hparams.get(argument)
        for each in value if isinstance(value, list) else [value]:
            part = own_part(each, argument)
            if part is None or _is_trusted(part, trust):
                continue
            package = part.class_path.partition(".")[0]
            raise ArgumentError(
                f"{where} was trained with code that is not of fastcell ({argument}: {part.class_path}), which is not "
                f"imported unasked. If you trust it, name its package: --trust {package} (in Python "
                f"trust=[{package!r}])."
            )


def _is_trusted(part: OwnPart, trust: Sequence[str]) -> bool:
    if any(part.class_path.startswith(f"{package}.") for package in trust):
        return True
    if not _KNOWN.fullmatch(part.class_path):
        return False
    from torch import nn

    try:
        found = import_part(part, "part")
    except ArgumentError:  # no class
        return False
    return isinstance(found, type) and issubclass(found, nn.Module)
