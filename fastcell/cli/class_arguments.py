"""Arguments of a class, read from its source file: names, types, defaults and help texts, without importing it.

The classes of model and data import torch, which takes seconds; the short help must not.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

from docstring_parser import DocstringStyle, parse

import fastcell
from fastcell.cli.signature import REQUIRED, Argument

_PLAIN: dict[str, Any] = {"bool": bool, "int": int, "float": float, "str": str}


def arguments_of_class(module: str, name: str) -> dict[str, Argument]:
    """Return the arguments of the constructor of a class, by name.

    A type that this module cannot interpret becomes ``object``; a default that is not a literal becomes `REQUIRED`.

    Args:
        module: module of the class, e.g. ``fastcell.loading.datamodule``.
        name: name of the class, whose docstring has a section ``Args``.
    """
    (defined,) = (node for node in _tree(module).body if isinstance(node, ast.ClassDef) and node.name == name)
    described = parse(inspect.cleandoc(ast.get_docstring(defined) or ""), DocstringStyle.GOOGLE)
    texts = {entry.arg_name: " ".join((entry.description or "").split()) for entry in described.params}
    (makes,) = (node for node in defined.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    places = makes.args.args[1:]
    defaults = [None] * (len(places) - len(makes.args.defaults)) + list(makes.args.defaults)
    pairs = [*zip(places, defaults, strict=True), *zip(makes.args.kwonlyargs, makes.args.kw_defaults, strict=True)]
    return {
        entry.arg: Argument(entry.arg, _type_of(module, entry.annotation), _value_of(default), texts.get(entry.arg, ""))
        for entry, default in pairs
    }


def first_sentence(text: str) -> str:
    """Return a help text up to its first full stop."""
    return text.partition(". ")[0].removesuffix(".")


def plain_text(text: str) -> str:
    """Return the text of a docstring without markup, repeated default and full stop; None is written as null."""
    text = re.sub(r":\w+:`~?\.?([^`]*)`", lambda found: found[1].rpartition(".")[2], " ".join(text.split()))
    text = re.sub(r"`+([^`]*)`+_?", r"\1", text)
    text = re.sub(r" Default: .*$", "", text).removesuffix(".")
    return re.sub(r"\bNone\b", "null", text)


@functools.cache
def _tree(module: str) -> ast.Module:
    path = Path(fastcell.__file__).parent.joinpath(*module.split(".")[1:])
    file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    return ast.parse(file.read_text(encoding="utf-8"))


def _value_of(node: ast.expr | None) -> Any:
    try:
        return REQUIRED if node is None else ast.literal_eval(node)
    except ValueError:
        return REQUIRED


def _type_of(module: str, node: ast.expr | None) -> Any:
    """Return the type that an annotation names; aliases of this package are followed to their module."""
    if isinstance(node, ast.Constant) and node.value is None:
        return types.NoneType
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return typing.Union[_type_of(module, node.left), _type_of(module, node.right)]  # noqa: UP007, of two values
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        if node.value.id == "Literal":
            values = ast.literal_eval(node.slice)
            return typing.Literal[values]
        if node.value.id == "list":
            return list[_type_of(module, node.slice)]  # type: ignore[misc]
        if node.value.id == "dict":
            return dict[str, object]
    if isinstance(node, ast.Name):
        return _PLAIN.get(node.id) or _alias(module, node.id)
    return object


def _alias(module: str, name: str) -> Any:
    """Return the type behind a name in a module, which may import it from another module of this package."""
    for entry in _tree(module).body:
        if isinstance(entry, ast.Assign) and any(getattr(target, "id", None) == name for target in entry.targets):
            return _type_of(module, entry.value)
        if isinstance(entry, ast.ImportFrom) and (entry.module or "").startswith("fastcell."):
            for imported in entry.names:
                if (imported.asname or imported.name) == name:
                    return _alias(str(entry.module), imported.name)
    return object
