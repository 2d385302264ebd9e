"""The README's commands exist and take the arguments it shows."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from fixtures.process_state import same_process_state

from fastcell.cli import main as cli

REPO_DIR = Path(__file__).resolve().parent.parent
README = (REPO_DIR / "README.md").read_text(encoding="utf-8")
LIGHTNING = {"fit", "validate", "test", "predict"}
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    """Return every call of fastcell in the README's shell blocks as its arguments, the command's name first."""
    found = []
    for line in "".join(BLOCKS).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for program in ("./run", "fastcell"):
            if program in words:
                found.append(words[words.index(program) + 1 :])
    return found


@cache
def help_text(name: str) -> str:
    text = io.StringIO()
    with same_process_state(), contextlib.redirect_stdout(text):
        try:
            status = cli.main([name, "--help_all" if name in LIGHTNING else "--help"])
        except SystemExit as end:
            status = end.code
    assert not status
    return text.getvalue()


def check(name: str, arguments: list[str]) -> None:
    flags = [word.split("=")[0] for word in arguments if word.startswith("--")]
    flags = [re.sub(r"^(--trainer\.(?:logger|callbacks))\..*", r"\1", flag) for flag in flags]
    assert [flag for flag in flags if not re.search(rf"{flag}\b", help_text(name))] == []


@pytest.mark.parametrize("words", [w for w in commands() if "-m" not in w and "-k" not in w], ids=" ".join)
def test_commands(words: list[str]) -> None:
    assert words[0] in cli.COMMANDS
    check(words[0], words[1:])


def test_every_command_and_preset_is_described() -> None:
    assert len(commands()) > 10
    table = [line for line in README.splitlines() if line.startswith("| `fastcell ")]
    for name in cli.COMMANDS:
        assert any(re.search(rf"`fastcell {name}\b", line) for line in table), name
    for path in (REPO_DIR / "fastcell" / "presets").glob("*.yaml"):
        assert f"| `{path.stem}` |" in README


def test_the_test_command_is_the_ones_ci_calls() -> None:
    assert "./run test " in "".join(BLOCKS)
    assert "\n./run test\n" in (REPO_DIR / ".ci" / "run").read_text()


@pytest.mark.parametrize("target", re.findall(r"`((?:benchmarks|kernels|fastcell)/[\w./]*)`", README))
def test_files_named_exist(target: str) -> None:
    if target != "benchmarks/results/":  # written by the programs
        assert (REPO_DIR / target).exists()
