"""The frozen surface: commands, options, exit codes, public names, environment variables."""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonargparse
import pytest

import fastcell
from fastcell.cli.main import main
from fastcell.cli.signature import REQUIRED, read_command

COMMANDS = list(sys.modules[main.__module__].COMMANDS)  # type: ignore[attr-defined]
LIGHTNING = ("fit", "validate", "test", "predict")
# Names of the Lightning module, which is no public name: they count as one.
MODULE_NAMES = r"\b(CellClassifier|CellModule)\b"
FILE = "surface.json.xz"


class Captured(Exception):  # noqa: N818, carries a parser out of a command
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parser_of(*arguments: str) -> argparse.ArgumentParser:
    """The parser that a command would read its arguments with."""
    parse = argparse.ArgumentParser.parse_known_args

    def stop(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        if self.add_help:
            raise Captured(self)
        return parse(self, *args, **kwargs)  # looks for one option, before the command's parser can be built

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        patch.setattr(jsonargparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Captured) as caught:
            main(list(arguments))
    return caught.value.parser


def plain(value: Any) -> Any:
    """A JSON value; classes and functions by their last name."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return short(value)
    if isinstance(value, os.PathLike):
        return Path(value).name
    return value if isinstance(value, int | float | None) else short(repr(value))


def short(text: str) -> str:
    """Dotted names of the package by their last part alone."""
    return re.sub(MODULE_NAMES, "CellModule", re.sub(r"\bfastcell(\.\w+)*\.(\w+)", r"\2", text))


def type_text(hint: Any) -> str:
    """A type without the places of its classes, the same under every Python."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in (None, type(None)):
        return "None"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(sorted(type_text(item) for item in inner))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, inner))}]"
    if origin is not None:
        name = getattr(origin, "__name__", str(origin))
        return f"{name}[{', '.join('...' if item is ... else type_text(item) for item in inner)}]"
    return short(getattr(hint, "__name__", str(hint)))


def options_of(name: str) -> dict[str, Any]:
    """What a command takes, by the name of the argument."""
    command = read_command(getattr(importlib.import_module(f"fastcell.cli.{name}"), name))
    found = {}
    for argument in (entry for entry in command.arguments if not entry.spelled.takes_dotted):
        required = argument.default is REQUIRED
        found[argument.dest] = {
            "options": sorted(argument.spellings),
            "positional": argument.positional,
            "repeated": argument.repeated,
            "type": type_text(argument.hint),
            "values": argument.num_values,
            "required": required,
            "default": None if required else plain(argument.default),
            "shown": argument.spelled.shown,
        }
    return found


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names with values; an empty dict is a value."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, plain(value)


def typed_options_of(parser: Any) -> dict[str, Any]:
    """What a parser of jsonargparse takes, by dotted name."""
    defaults = dict(flat(parser.get_defaults().as_dict()))
    found = {}
    for action in parser._actions:
        if action.dest.endswith(".help"):
            continue
        hint = getattr(action, "_typehint", None)
        found[action.dest] = {
            "options": action.option_strings,
            "type": None if hint is None else type_text(hint),
            "required": action.required,
            "nargs": action.nargs,
        }
        if action.dest in defaults:
            found[action.dest]["default"] = defaults.pop(action.dest)
    return {**found, **{f"default of {name}": value for name, value in defaults.items()}}


def test_commands(frozen):
    frozen(FILE, "commands", COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in LIGHTNING])
def test_options(name, frozen):
    frozen(FILE, f"options of {name}", options_of(name))


@pytest.mark.parametrize("name", LIGHTNING)
def test_typed_options(name, frozen):
    import pytorch_lightning as pl

    options = typed_options_of(parser_of(name))
    trainers = {key: value for key, value in options.items() if re.match(r"(default of )?trainer\.", key)}
    frozen(FILE, f"options of {name}", {key: value for key, value in options.items() if key not in trainers})
    versions = {"pytorch_lightning": pl.__version__, "jsonargparse": jsonargparse.__version__}
    frozen(FILE, f"options of {name}, trainer", trainers, versions=versions)


@pytest.mark.parametrize("preset", ["demo", "fast", "paper", "thorough"])
def test_presets(preset, frozen):
    values = parser_of("fit", f"--preset={preset}")
    settings = {name: value for name, value in flat(values.get_defaults().as_dict()) if not name.startswith("trainer.")}
    of_trainer = ["max_epochs", "max_steps", "val_check_interval", "check_val_every_n_epoch", "log_every_n_steps"]
    trainer = values.get_defaults().as_dict()["trainer"]
    frozen(FILE, f"preset {preset}", {**settings, **{f"trainer.{name}": trainer[name] for name in of_trainer}})


MISSING, DATA, OUT, PNG = "{missing}", "{data}", "{out}", "{image}"
INVOCATIONS = {
    "": [[], ["--help"], ["-h"], ["help"], ["--version"], ["-V"], ["version"], ["nonsense"], ["--nonsense"]],
    "synth": [[], [OUT, "--cells", "0"], [OUT, "--cells", "x"], [OUT, "--layout", "heap"], [OUT, "--defects", "2"],
              [DATA], [OUT, "--split", "1/2"], [OUT, "--jobs", "0"]],
    "pack": [[], [MISSING, OUT], [PNG], [PNG, DATA], [PNG, OUT, "--layout", "heap"], [PNG, OUT, "--format", "heap"],
             [PNG, OUT, "--window", "1"], [PNG, OUT, "--tile", "4"], [PNG, OUT, "--um-per-px", "-1"]],
    "index": [[], [MISSING], [DATA], [DATA, "--nonsense"], [DATA, "--jobs", "x"]],
    "split": [[], [MISSING], [DATA, "--group-by", "nothing"], [DATA, "--name", "default"], [DATA, "--split", "0/0/0"]],
    "verify": [[], [MISSING], [DATA], [DATA, "--jobs", "0"], [DATA, "--list", MISSING + "/a.csv"]],
    "qc": [[], [MISSING], [DATA, "--labels", MISSING], [DATA, "--max-bad-passed", "2"], [DATA, "--verdicts", MISSING]],
    "review": [[], [MISSING], [DATA, MISSING], [DATA, "--select", "nothing=1"], [DATA, "--port", "x"],
               [DATA, "--export", DATA]],
    "explain": [[], [MISSING], [DATA], [MISSING, "--cells", "0"], [MISSING, "--parts", "nothing"]],
    "report": [[], [MISSING], [DATA], [MISSING, "--cells", "-1"], [MISSING, "--seed", "x"]],
    "info": [[], [MISSING], [DATA], [DATA, "--split-name", "nothing"], [DATA, "--seed", "x"]],
    "audit": [[], [MISSING], [DATA, MISSING], [DATA, "--permutations", "x"], [DATA, "--cells", "0"]],
    "fit": [["--nonsense=1"], ["--preset=nothing"], [f"--data.path={MISSING}"], [f"--resume={MISSING}"],
            [f"--config={MISSING}"], [f"--data.path={DATA}", "--data.batch_size=0"],
            [f"--data.path={DATA}", "--model.network=nothing"], [f"--data.path={DATA}", "--data.fit=crop"],
            [f"--data.path={DATA}", f"--ckpt_path={MISSING}"], [f"--data.path={DATA}", "--select=worst"]],
    "validate": [[], ["--nonsense=1"], [f"--ckpt_path={MISSING}", f"--data.path={DATA}"], ["--model.network=gao"]],
    "test": [[], [f"--ckpt_path={MISSING}", f"--data.path={DATA}"], [f"--ckpt_path={PNG}", "--data.batch_size=3"],
             [f"--ckpt_path={MISSING}", f"--data.path={DATA}", "--out=a.txt"]],
    "predict": [[], [f"--ckpt_path={MISSING}"], [f"--ckpt_path={MISSING}", f"--data.path={DATA}", "--out=a.txt"],
                [f"--ckpt_path={MISSING}", f"--data.path={DATA}", f"--out={MISSING}/a.csv"]],
    "distill": [[], [MISSING], [MISSING, "--budget", "soon"], [MISSING, "--share", "2"], [MISSING, "--nonsense"]],
    "serve": [[], [MISSING], [MISSING, "--queue", "0"], [MISSING, "--when_full", "never"], [MISSING, "--http", "-2"],
              [MISSING, "--nonsense"]],
    "watch": [[], [MISSING], [MISSING, DATA, "--out", "a.txt"], [MISSING, MISSING, "--out", "a.csv"],
              [MISSING, DATA, "--out", "a.csv", "--poll", "0"]],
    "bench": [[MISSING], [DATA, "--seconds", "0"], [DATA, "--cells", "0"], [DATA, "--instrument-rate", "-1"],
              [DATA, "--preset", "nothing"], [DATA, "--out", MISSING + "/a.json"]],
    "convert": [[], [MISSING], [MISSING, "a.csv"], [PNG, "a.csv"], [PNG, "a.txt"]],
    "count": [[], [MISSING], [PNG], [PNG, "--confusion", MISSING], [PNG, "--out", "a.txt"]],
    "export": [[], [MISSING], [MISSING, "a.onnx"], [DATA, "a.onnx"], [DATA, "a.onnx", "--check", "x"]],
    "compare": [[MISSING], [DATA, "--methods", "forest"], [DATA, "--volumes", "2"], [DATA, "--seeds", "0"],
                [DATA, "--study", "nothing"], [DATA, "--nonsense", "1"], [DATA, "--backend", "abacus"],
                [DATA, "--pca", "many"]],
    "doctor": [["--probe", "nothing"], ["--nonsense"]],
    "completion": [[], ["fish"], ["bash", "--nonsense"]],
}  # fmt: skip


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_exit_codes(name, frozen, call, packed, images, tmp_path):
    image = sorted(images.rglob("*.png"))[0]
    places = {"missing": tmp_path / "missing", "data": packed, "image": image, "out": tmp_path / "out"}
    found = {}
    for words in INVOCATIONS[name] if not name else [["--help"], *INVOCATIONS[name]]:
        arguments = [word.format(**places) for word in ([name] if name else []) + words]
        found[" ".join(([name] if name else []) + words)] = call(*arguments, status=None)
        assert not (tmp_path / "out").exists()
    frozen(FILE, f"exit codes of {name or 'the program'}", found)


def test_module_ends_with_the_commands_status(frozen):
    codes = {}
    for words in (["--version"], ["nonsense"], ["verify"], []):
        program = [sys.executable, "-m", "fastcell", *words]
        codes[" ".join(words)] = subprocess.run(program, capture_output=True, timeout=60).returncode
    frozen(FILE, "exit codes of python -m fastcell", codes)


def test_public_names(frozen):
    frozen(FILE, "public names", sorted(fastcell.__all__))
    assert all(getattr(fastcell, name) is not None for name in fastcell.__all__)
    frozen(FILE, "version", fastcell.__version__)


def test_public_signatures(frozen):
    """Names and defaults of what the public classes take."""
    import inspect

    found = {}
    for name in sorted(fastcell.__all__):
        public = getattr(fastcell, name)
        if not isinstance(public, type) or issubclass(public, BaseException):
            continue
        arguments = inspect.signature(public).parameters.values()
        found[name] = {
            argument.name: "required" if argument.default is argument.empty else plain(argument.default)
            for argument in arguments
        }
    frozen(FILE, "arguments of the public classes", found)


def read_variables(sources: list[Path]) -> tuple[set[str], set[str]]:
    """Environment variables that sources read or set, and whole texts that begin with FASTCELL_."""
    content = [path.read_text(encoding="utf-8") for path in sources]
    trees = [ast.parse(text) for text in content if re.search("environ|getenv|FASTCELL_", text)]
    constants = {}
    texts, keys = set(), []
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    constants.setdefault(target.id, set()).add(node.value.value)
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch("FASTCELL_[A-Z_]+", node.value)
        ):
            texts.add(node.value)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
            keys.append(node.slice)
        if isinstance(node, ast.Call) and re.search(r"environ\.(get|pop|setdefault)$|getenv$", ast.unparse(node.func)):
            keys.append(node.args[0])
        if isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]).endswith("environ"):
            keys.append(node.left)
    found = set()
    for key in keys:
        if isinstance(key, ast.Constant):
            found.add(str(key.value))
        elif isinstance(key, ast.Name | ast.Attribute):
            found |= constants.get(key.id if isinstance(key, ast.Name) else key.attr, {ast.unparse(key)})
    return found, texts


def test_environment_variables(frozen):
    found, texts = read_variables(sorted(Path(fastcell.__file__).parent.rglob("*.py")))
    frozen(FILE, "environment variables", sorted(found))
    frozen(FILE, "texts that begin with FASTCELL_", sorted(texts))
