"""Hashes of the modules that define user-defined parts, so that a resumed run uses the same code.

The hash covers the module of a part, and those modules that it imports from the same package or folder.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fastcell.errors import ArgumentError
from fastcell.models.registry import module_of_network
from fastcell.system.own_parts import import_package, own_part

_ARGUMENTS = ("model.network", "model.loss", "model.metrics", "data.batch_augmentation")
_LIBRARIES = ("fastcell", "torch", "torchmetrics", "timm", "torchvision", "pytorch_lightning", "lightning")
_INSTALLED = {"site-packages", "dist-packages"}


def code_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash of the module of each user-defined part in the settings, by argument and name of the part.

    Modules imported by such a module have entries of their own, with their name in brackets. Comments and code layout
    do not affect the hash. Parts from libraries, and parts without source code, are left out. The modules of the parts
    are imported.

    Args:
        settings: settings of ``fit`` by dotted name.

    Raises:
        ArgumentError: a module cannot be imported.
    """
    found = {}
    for title, module in _parts(settings):
        if module.partition(".")[0] in _LIBRARIES:
            continue
        import_package(module, "model or data")
        for name, tree in _sources(module).items():
            digest = blake2b(ast.dump(tree).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
            found[title if name == module else f"{title} ({name})"] = digest
    return found


def changed_parts(saved: Mapping[str, str], settings: Mapping[str, Any]) -> list[str]:
    """Return the parts whose code is another than in a run, by argument and name.

    Args:
        saved: result of `code_of` in the run; what it lacks counts as unchanged.
        settings: settings of ``fit`` by dotted name.
    """
    return [title for title, digest in code_of(settings).items() if saved.get(title, digest) != digest]


def check_code(saved: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    """Check that the user-defined parts of a resumed run have not changed since it was trained.

    Args:
        saved: result of `code_of` in the run; empty for a run of an earlier version.
        settings: settings of ``fit`` by dotted name.

    Raises:
        ArgumentError: the module of a part has changed.
    """
    for title in changed_parts(saved, settings):
        raise ArgumentError(
            f"the code of {title} must be as in the run that is resumed, but its module has changed since. Restore "
            "it, or start a new run."
        )


def _parts(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield argument, name and module of each user-defined part."""
    for argument in _ARGUMENTS:
        value = settings.get(argument)
        for each in value if isinstance(value, list) else [value]:
            part = own_part(each, argument)
            if part is not None:
                yield f"--{argument} {part.class_path}", part.class_path.rpartition(".")[0]
            elif argument == "model.network" and (module := module_of_network(str(each))) is not None:
                yield f"--{argument} {each}", module


def _sources(name: str) -> dict[str, ast.Module]:
    """Return the sources of a module and of the modules of its author that it imports, by name; without those of C."""
    start = _place(name)
    if start is None:
        return {}
    found: dict[str, ast.Module] = {}
    author = _Author(name, start)
    waiting = [name]
    while waiting:
        module = waiting.pop()
        place = _place(module) if module not in found and author.may_have(module) else None
        if place is None or not author.wrote(place):
            continue
        try:
            found[module] = ast.parse(place.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        around = module.rpartition(".")[0]
        waiting += [*filter(None, [around]), *_imported(found[module], module if _is_package(place) else around)]
    return found


class _Author:
    """Who wrote a module: the modules of its package, or those of its folder if it is alone, are of the same author."""

    def __init__(self, module: str, place: Path) -> None:
        self.package = module.partition(".")[0]
        depth = module.count(".") + _is_package(place)
        self.folder = place.parents[depth - 1] if depth else place.parent
        if not depth and place.parent.name in _INSTALLED:  # a module alone among packages of others
            self.folder = place

    def may_have(self, module: str) -> bool:
        """Return whether a module may be code of the user, without importing third-party packages."""
        top = module.partition(".")[0]
        if top in _LIBRARIES or top in sys.stdlib_module_names:
            return False
        place = None if top == self.package else _place(top)
        return top == self.package or (place is not None and self.wrote(place))

    def wrote(self, place: Path) -> bool:
        """Return whether a file is of the author."""
        return place.is_relative_to(self.folder) and not set(place.relative_to(self.folder).parts) & _INSTALLED


def _is_package(place: Path) -> bool:
    return place.name == "__init__.py"


def _place(module: str) -> Path | None:
    """Return the file of a module's source; None if there is none. The packages around it are imported."""
    try:
        known = sys.modules.get(module)
        spec = None if known is not None else importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    origin = getattr(known, "__file__", None) if spec is None else spec.origin
    return Path(origin).resolve() if isinstance(origin, str) and origin.endswith(".py") else None


def _imported(tree: ast.Module, package: str) -> list[str]:
    """Return the names that a source imports and that may be modules."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in dict.fromkeys(names) if name]
