"""The house: rooms of the package by floors, imports that go down only, one meaning for each name."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fastcell"

#: From the ground up. A room imports rooms of lower floors only, never one of its own floor.
FLOORS = [
    ["errors"],
    ["system", "storage", "ops", "stats"],
    ["plots", "web", "remote"],
    ["dataset"],
    ["sources"],
    ["splits"],
    ["packing"],
    ["simulator"],
    ["loading"],
    ["models"],
    ["runs"],
    ["inference", "quality"],
    ["audit", "predictions"],
    ["training"],
    ["explain", "compare", "live"],
    ["bench"],
    ["report"],
    ["review"],
    ["cli"],
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

#: Modules at the top: the lazy public names, the command, the errors, and a former place that pickles name.
LOOSE = {"__init__.py", "__main__.py", "errors.py", "sklearn.py"}

#: What pickles call a place; a string may name it, an import may not.
NAMED_IN_PICKLES = "fastcell.sklearn"

MOST_MODULES = 20

#: File names that stand in several rooms, each of which completes the name.
COMPLETED_BY_THEIR_ROOM = {"decode", "figures", "preprocessing", "registry", "transform", "normalize"}

DOTTED = re.compile(r"\bfastcell\.([a-z_]+)(?:\.[A-Za-z_]\w*)*\b")


def modules(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if "__pycache__" not in path.parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(package: Path, path: Path) -> str:
    parts = path.relative_to(package).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported_rooms(package: Path, path: Path) -> dict[str, int]:
    """Rooms that a module names in imports, lazy and TYPE_CHECKING ones included, and in strings that are code or
    places: room -> line. Docstrings may name any room."""
    tree = parsed(path)
    found = {}

    def add(dotted: str, line: int) -> None:
        parts = dotted.split(".")
        if parts[0] == package.name and len(parts) > 1:
            found.setdefault(parts[1], line)

    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstrings |= {
                id(line.value)
                for line in node.body
                if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
            }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute"
            for alias in node.names:
                add(f"{node.module}.{alias.name}", node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            for match in DOTTED.finditer(node.value.replace(NAMED_IN_PICKLES, "")):
                if (package / match[1]).is_dir() or (package / f"{match[1]}.py").is_file():
                    add(match[0], node.lineno)
    return found


def wrong_imports(package: Path) -> list[str]:
    """What breaks the rule of the floors, a line each."""
    wrong = []
    for path in modules(package):
        room = room_of(package, path)
        place = path.relative_to(package).as_posix()
        if place in LOOSE - {"errors.py"}:
            continue
        if room not in FLOOR_OF:
            wrong.append(f"{place}: unknown room {room!r}")
            continue
        for other, line in imported_rooms(package, path).items():
            if other in (room, "__version__"):
                continue
            if other not in FLOOR_OF:
                wrong.append(f"{place}:{line}: names fastcell.{other}, which is no room")
            elif FLOOR_OF[other] > FLOOR_OF[room]:
                wrong.append(f"{place}:{line}: {room} names {other}, which is above it")
            elif FLOOR_OF[other] == FLOOR_OF[room]:
                wrong.append(f"{place}:{line}: {room} names {other}, which is on the same floor")
    return wrong


def test_imports_go_down():
    assert wrong_imports(PACKAGE) == []


@pytest.mark.parametrize(
    ("place", "text", "expected"),
    [
        ("ops/a.py", "from fastcell.models import b\n", "ops/a.py:1: ops names models, which is above it"),
        ("ops/a.py", "def f():\n    import fastcell.cli.fit\n", "ops/a.py:2: ops names cli, which is above it"),
        (
            "ops/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fastcell.runs.open_run import Run\n",
            "ops/a.py:3: ops names runs, which is above it",
        ),
        (
            "ops/a.py",
            "import importlib\nimportlib.import_module('fastcell.report.page')\n",
            "ops/a.py:2: ops names report, which is above it",
        ),
        ("ops/a.py", "from fastcell import stats\n", "ops/a.py:1: ops names stats, which is on the same floor"),
        ("common/a.py", "", "common/a.py: unknown room 'common'"),
        ("helpers.py", "", "helpers.py: unknown room 'helpers'"),
        ("ops/a.py", "from fastcell.common import b\n", "ops/a.py:1: names fastcell.common, which is no room"),
    ],
)
def test_a_wrong_import_is_seen(tmp_path, place, text, expected):
    package = tmp_path / "fastcell"
    for room in ("ops", "models", "runs", "report", "cli", "stats"):
        (package / room).mkdir(parents=True)
    (package / place).parent.mkdir(exist_ok=True)
    (package / place).write_text(text)
    (package / "models" / "fine.py").write_text("from fastcell import __version__, ops\n")
    assert wrong_imports(package) == [expected]


def test_nothing_lies_loose():
    assert {path.name for path in PACKAGE.glob("*.py")} == LOOSE
    alias = (PACKAGE / "sklearn.py").read_text(encoding="utf-8")
    assert len([line for line in alias.splitlines() if line.strip()]) <= 2


def test_rooms_are_of_a_size_that_can_be_overlooked():
    sizes = defaultdict(int)
    for path in modules(PACKAGE):
        if path.name != "__init__.py":
            sizes[path.parent.relative_to(PACKAGE).as_posix()] += 1
    assert {folder: size for folder, size in sizes.items() if size > MOST_MODULES and folder != "cli"} == {}


def test_every_room_says_what_it_is_for():
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(parsed(path)), path


def test_the_map_shows_every_room():
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\s*([a-z_/]+)/ ", text, re.MULTILINE))
    folders = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")} - {"."}
    assert folders <= listed, folders - listed
    assert listed - {"presets", "report/templates"} <= folders, listed - folders


def test_only_the_command_line_parses_arguments():
    """With jsonargparse, which makes every parser: argparse alone is imported nowhere."""
    for path in modules(PACKAGE):
        tree = parsed(path)
        if room_of(PACKAGE, path) == "cli":
            imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
            assert "argparse" not in imported, path
            continue
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                assert name.split(".")[0] not in ("argparse", "jsonargparse"), path
                assert name != "pytorch_lightning.cli" or path.name == "lightning_internals.py", path
        assert "main" not in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], path


def places_of(kinds: tuple[type, ...]) -> dict[str, list[str]]:
    """Public names of top-level definitions -> modules that define them; those of the command line are its own."""
    found = defaultdict(list)
    for path in modules(PACKAGE):
        if room_of(PACKAGE, path) == "cli":
            continue
        for node in parsed(path).body:
            if isinstance(node, kinds) and not node.name.startswith("_"):  # type: ignore[attr-defined]
                found[node.name].append(path.relative_to(PACKAGE).as_posix())  # type: ignore[attr-defined]
    return found


def test_a_class_has_a_name_of_its_own():
    assert {name: places for name, places in places_of((ast.ClassDef,)).items() if len(places) > 1} == {}


def test_a_public_function_has_a_name_of_its_own():
    found = places_of((ast.FunctionDef, ast.AsyncFunctionDef))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_a_file_name_stands_once():
    found = defaultdict(list)
    for path in modules(PACKAGE):
        if path.name not in ("__init__.py", "__main__.py") and room_of(PACKAGE, path) != "cli":
            found[path.stem].append(path.relative_to(PACKAGE).as_posix())
    twice = {stem: places for stem, places in found.items() if len(places) > 1}
    assert {stem: places for stem, places in twice.items() if stem not in COMPLETED_BY_THEIR_ROOM} == {}
