"""What type checkers see of the public names: their types, in a strict script of a user."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastcell

REPO_DIR = Path(__file__).resolve().parent.parent
SCRIPT = Path(__file__).parent / "fixtures" / "typed_user_script.py"

REVEALED = {
    "fastcell.load": "def (run: str | os.PathLike",
    "fastcell.Manifest": "type[fastcell.dataset.manifest.Manifest]|def (",
    "fastcell.CellDataModule('cells').train_dataloader()": "fastcell.loading.loader.BatchLoader",
    "fastcell.load('run').predict([])": "fastcell.inference.classified_cells.ClassifiedCells",
    "fastcell.load('run').predict([]).labels": "ndarray",
    "fastcell.load('run').classes": "list[str]",
    "fastcell.CellClassifier.load('model')": "fastcell.training.estimator.CellClassifier",
    "fastcell.Preprocessing().image_size": "int",
    "fastcell.__version__": "str",
}


def public_names_of(tree: ast.Module) -> set[str]:
    """Names imported or used as ``fastcell.NAME``."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fastcell":
            names.add(node.attr)
    return names


def test_the_script_names_everything_public() -> None:
    assert set(fastcell.__all__) <= public_names_of(ast.parse(SCRIPT.read_text(encoding="utf-8")))


def test_type_checkers_and_the_lazy_import_know_the_same_names() -> None:
    tree = ast.parse((REPO_DIR / "fastcell" / "__init__.py").read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    found = {alias.asname: node.module for block in blocks for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert found == fastcell._EXPORTS


def test_arguments_of_public_functions_are_not_any() -> None:
    """Dictionaries of settings and of states hold values of any type; a plain argument has a type of its own."""
    for name in fastcell.__all__[1:]:
        public = getattr(fastcell, name)
        members = vars(public).values() if inspect.isclass(public) else [public]
        for function in filter(inspect.isfunction, [getattr(each, "__func__", each) for each in members]):
            if function.__name__.startswith("_") and function.__name__ != "__init__":
                continue
            for argument in inspect.signature(function).parameters.values():
                if argument.name not in ("self", "cls") and argument.kind != argument.VAR_KEYWORD:
                    told = re.sub(r"(?:dict|Mapping)\[str, Any\]", "", str(argument.annotation))
                    assert "Any" not in told, (name, function.__name__, argument)
                    assert told != str(inspect.Parameter.empty), (name, function.__name__, argument)


@pytest.mark.slow
def test_mypy_strict(tmp_path: Path) -> None:
    revealing = tmp_path / "revealing.py"
    revealing.write_text("import fastcell\n" + "".join(f"reveal_type({text})\n" for text in REVEALED))
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = true\n[mypy-fastcell.*]\nfollow_imports = silent\n")
    command = ["-m", "mypy", "--config-file", str(settings), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [sys.executable, *command, str(SCRIPT), str(revealing)],
        cwd=REPO_DIR,
        capture_output=True,
        text=True,
        timeout=280,
    )
    told = re.findall(r'revealing\.py:(\d+): note: Revealed type is "(.*)"', done.stdout)
    assert [line for line in done.stdout.splitlines() if ": error:" in line] == [], done.stdout + done.stderr
    types = {int(line) - 2: text for line, text in told}
    for number, (name, expected) in enumerate(REVEALED.items()):
        text = types[number].replace("builtins.", "")
        assert any(part in text for part in expected.split("|def")) or expected in text, (name, text)
        assert text != "Any", name


@pytest.mark.slow
def test_pyright(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright", reason="basedpyright is not installed")
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "basic", "extraPaths": [str(REPO_DIR)], "reportMissingImports": True})
    )
    (tmp_path / "script.py").write_text(SCRIPT.read_text(encoding="utf-8"))
    command = ["-m", "basedpyright", "--project", str(tmp_path), "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    errors = [found for found in json.loads(done.stdout)["generalDiagnostics"] if found["severity"] == "error"]
    assert errors == []
