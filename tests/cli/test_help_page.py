"""Layout of help texts."""

import importlib
import shlex

import pytest
from fixtures.golden_files import check_golden, run_command

from fastcell.cli import main as cli
from fastcell.cli.help_page import lay_out
from fastcell.cli.lightning_options import LIGHTNING_COMMANDS
from fastcell.cli.parser import parse_words
from fastcell.cli.signature import read_command


@pytest.mark.parametrize("name", ["", *cli.COMMANDS])
def test_help(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    status, text, _ = run_command([name, "--help"] if name else ["--help"], capsys)
    assert status == 0
    check_golden("help", name or "fastcell", text)
    assert len(text.splitlines()) <= 70
    assert max(map(len, text.splitlines())) <= 100
    assert "`" not in text
    assert "Linked arguments" not in text


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name not in LIGHTNING_COMMANDS])
def test_examples_are_right(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = read_command(getattr(importlib.import_module(f"fastcell.cli.{name}"), name))
    for example in command.examples:
        program, named, *words = shlex.split(example)
        assert (program, named) == ("fastcell", name)
        assert set(parse_words(command, words)) == {argument.dest for argument in command.arguments}


def test_layout(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = lay_out(
        "fastcell probe SRC",
        "Probe " * 12,
        [("SRC", "the source")],
        {"options": [("--size N", "side " * 10), ("--very-long-name-of-an-option N", "text (3)")], "empty": []},
        "A note.\n\ntable:\n  a  b",
        ["fastcell probe a"],
        ["The end."],
    )
    assert (
        text
        == """\
usage: fastcell probe SRC

Probe Probe Probe Probe Probe Probe Probe Probe Probe Probe
Probe Probe

  SRC       the source

options:
  --size N  side side side side side side side side side
            side
  --very-long-name-of-an-option N
            text (3)

A note.

table:
  a  b

examples:
  fastcell probe a

The end."""
    )


@pytest.mark.parametrize("columns", ["0", "7", "10000"])
def test_any_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    status, text, _ = run_command(["compare", "--help"], capsys)
    assert status == 0
    assert "--study volume|loss|resolution|leakage" in text
    assert max(map(len, text.splitlines())) <= 100
