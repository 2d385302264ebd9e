"""The parsers of the commands: help on golden files, spelling of options, weight."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from fixtures.golden_files import check_golden, run_command

from fastcell.cli import main as cli
from fastcell.cli.fit import LIGHTNING_COMMANDS
from fastcell.cli.parser import CommandParser, same_spelling

HEAVY = ["torch", "nvidia", "pytorch_lightning", "numpy", "pyarrow", "numba", "cv2", "matplotlib", "scipy", "pandas"]
MOST_CPU_S = 0.5


@pytest.mark.parametrize("name", ["", *cli.COMMANDS])
def test_help(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    status, text, _ = run_command([name, "--help"] if name else ["--help"], capsys)
    assert status == 0
    check_golden(f"help/{name or 'fastcell'}.txt", text)
    assert len(text.splitlines()) <= 62
    assert max(map(len, text.splitlines())) <= 120
    assert "`" not in text
    assert "Linked arguments" not in text


def test_help_of_every_command_is_light() -> None:
    """No heavy package, under 0.5 s of CPU each; one process forks for all, so that it is the commands' own time."""
    code = f"""
import json, os, resource, sys
found = {{}}
for name in {list(cli.COMMANDS)!r}:
    reads, writes = os.pipe()
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        from fastcell.cli.main import main
        try:
            main([name, "--help"])
        except SystemExit:
            pass
        used = resource.getrusage(resource.RUSAGE_SELF)
        heavy = [package for package in {HEAVY!r} if package in sys.modules]
        os.write(writes, json.dumps([used.ru_utime + used.ru_stime, heavy]).encode())
        os._exit(0)
    os.close(writes)
    found[name] = json.loads(os.read(reads, 65536))
    os.wait()
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout)
    assert {name: heavy for name, (_, heavy) in found.items() if heavy} == {}
    assert {name: cpu_s for name, (cpu_s, _) in found.items() if cpu_s > MOST_CPU_S} == {}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--shard_cells", "--shard-cells"),
        ("--shard_cells=5", "--shard-cells=5"),
        ("--ckpt-path", "--ckpt_path"),
        ("--data.image-size=a-b", "--data.image_size=a-b"),
        ("--unknown-name", "--unknown-name"),
        ("plain-word", "plain-word"),
        ("-o", "-o"),
    ],
)
def test_dashes_and_underscores_are_alike(word: str, meant: str) -> None:
    assert same_spelling([word], ["--shard-cells", "--ckpt_path", "-o"]) == [meant]
    assert same_spelling(["--ckpt-path=a-b", "--data.fit"]) == ["--ckpt_path=a-b", "--data.fit"]


def test_an_argument_given_in_two_ways() -> None:
    from fastcell.cli.options import add_out_argument

    parser = CommandParser("fastcell probe", "SRC OUT", "Probe.")
    parser.add_argument("src", metavar="SRC")
    add_out_argument(parser, "OUT", "file to write")
    for words in (["a", "b"], ["a", "--out", "b"], ["-o", "b", "a"], ["a", "-ob"]):
        found = parser.parse_args(words)
        assert (found.src, found.out) == ("a", "b")


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name not in LIGHTNING_COMMANDS])
def test_every_option_may_be_written_with_either_sign(name: str) -> None:
    import importlib

    parser = importlib.import_module(f"fastcell.cli.{name}")._parser()
    for option in parser.options:
        assert same_spelling([option.replace("_", "-")], parser.options) == [option]
        assert same_spelling(["--" + option[2:].replace("-", "_")], parser.options) == [option]
