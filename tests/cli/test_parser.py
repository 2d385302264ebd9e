"""From words to values: spelling of options, places, types, weight of the help."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest

from fastcell.cli import main as cli
from fastcell.cli.lightning_options import LIGHTNING_COMMANDS
from fastcell.cli.parser import entry, parse_words
from fastcell.cli.signature import Spelled, folded, read_command
from fastcell.errors import ArgumentError

HEAVY = ["torch", "nvidia", "pytorch_lightning", "numpy", "pyarrow", "numba", "cv2", "matplotlib", "scipy", "pandas"]
HEAVY += ["jsonargparse"]
MOST_CPU_S = 0.5


def test_help_of_every_command_is_light():
    """No heavy package, under 0.5 s of CPU each; one process forks for all, so that it is the commands' own time."""
    code = f"""
import json, os, resource, sys
found = {{}}
for name in {list(cli.COMMANDS)!r}:
    reads, writes = os.pipe()
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        from fastcell.cli.main import main
        main([name, "--help"])
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


def probe(
    src: str,
    out: Annotated[str, Spelled("OUT", also=("-o", "--out"))],
    extra: str | None = None,
    *,
    shard_cells: int = 5,
    share: float | None = None,
    pair: Annotated[tuple[float, float] | None, Spelled("LO HI", former=("--data.range",))] = None,
    parts: list[Literal["ab", "c d"]] | None = None,
    kind: Literal["flat", "deep"] = "flat",
    name: str | None = None,
    strict: bool = False,
    settings: Annotated[tuple[str, ...], Spelled(shown=False, takes_dotted=True)] = (),
) -> int:
    """Probe.

    Args:
        src: source
        out: target
        extra: more
        shard_cells: a number
        share: a share
        pair: a pair
        parts: names
        kind: a kind
        name: a name
        strict: be strict
        settings: passed on
    """
    seen.clear()
    seen.update(locals())
    return 7


seen = {}
DEFAULTS = {
    "src": "s", "out": "o", "extra": None, "shard_cells": 5, "share": None, "pair": None, "parts": None, "kind": "flat",
    "name": None, "strict": False, "settings": (),
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["s", "o"], {}),
        (["s", "o", "x"], {"extra": "x"}),
        (["s", "-o", "o"], {}),
        (["-oo", "s"], {}),
        (["-o=o", "s", "x"], {"extra": "x"}),
        (["s", "--out=o"], {}),
        (["--out", "o", "s", "x"], {"extra": "x"}),
        (["s", "--shard_cells", "3", "o"], {"shard_cells": 3}),
        (["s", "--shard-cells=3", "o", "--strict", "x"], {"shard_cells": 3, "strict": True, "extra": "x"}),
        (["s", "o", "--shard", "3"], {"shard_cells": 3}),
        (["s", "o", "--shard-cells", "3", "--shard-cells", "4"], {"shard_cells": 4}),
        (["s", "o", "--shard-cells", "-3"], {"shard_cells": -3}),
        (["s", "o", "--shard-cells", "010"], {"shard_cells": 10}),
        (["s", "o", "--share", ".05"], {"share": 0.05}),
        (["s", "o", "--share", "1e-3"], {"share": 0.001}),
        (["s", "o", "--share", "3"], {"share": 3.0}),
        (["--pair", "-1", "2.5", "s", "o"], {"pair": (-1.0, 2.5)}),
        (["--data.range", "1", "2", "s", "o"], {"pair": (1.0, 2.0)}),
        (["s", "o", "--parts", "c d,ab"], {"parts": ["c d", "ab"]}),
        (["s", "o", "--parts=ab, ab"], {"parts": ["ab", "ab"]}),
        (["s", "o", "--kind", "deep"], {"kind": "deep"}),
        (["s", "o", "--name", "null"], {"name": "null"}),
        (["s", "o", "--name", "~"], {"name": "~"}),
        (["s", "o", "--name", "12"], {"name": "12"}),
        (["s", "o", "--name", "[1, 2]"], {"name": "[1, 2]"}),
        (["s", "o", "--name="], {"name": ""}),
        (["s", "o", "--name=-x"], {"name": "-x"}),
        (["s", "o", "--name", "{class}_{name}"], {"name": "{class}_{name}"}),
        (["{class}: [", "o"], {"src": "{class}: ["}),
        (["--strict", "--", "s", "--out"], {"strict": True, "out": "--out"}),
        (["--", "--help", "-h"], {"src": "--help", "out": "-h"}),
        (
            ["s", "o", "--model.loss", "mse", "--data.fit=scale"],
            {"settings": ["--model.loss", "mse", "--data.fit=scale"]},
        ),
    ],
)
def test_words_become_values(words, changed):
    assert entry(probe)(words) == 7
    expected = {**DEFAULTS, **changed}
    expected["settings"] = list(expected["settings"])
    assert seen == expected
    assert type(seen["share"]) is type(expected["share"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "SRC and OUT must be given. Write: fastcell probe SRC OUT [EXTRA] [options]"),
        (["s"], "OUT must be given."),
        (["-o", "o"], "SRC must be given."),
        (["s", "o", "x", "y"], "unexpected argument 'y'."),
        (["s", "o", "x", "--out", "p"], "OUT must be given once, got 'x' and --out. Leave one out."),
        (["s", "o", "--s", "3"], "--s is ambiguous: it could be --shard-cells or --share or --strict."),
        (["s", "o", "--nmae", "3"], "unknown option --nmae. Did you mean --name?\n'fastcell probe --help' shows"),
        (["--nmae=3"], "unknown option --nmae. Did you mean --name?"),
        (["s", "o", "-x"], "unknown option -x."),
        (["s", "o", "--shard-cells"], "--shard-cells needs a value."),
        (["s", "o", "--shard-cells", "--strict"], "--shard-cells needs a value."),
        (["s", "o", "--shard-cells="], "--shard-cells must be a whole number, got ''."),
        (["s", "o", "--shard-cells", "1.0"], "--shard-cells must be a whole number, got '1.0'."),
        (
            ["s", "o", "--shard-cells", "1" + 19 * "0"],
            "--shard-cells must be a whole number from -2^63 to 2^63 - 1, got 1",
        ),
        (["s", "o", "--shard-cells", "null"], "--shard-cells must be a whole number, got 'null'."),
        (["s", "o", "--share", "null"], "--share must be a number, got 'null'."),
        (["s", "o", "--share", "inf"], "--share must be a number, got 'inf'."),
        (["s", "o", "--share", "nan"], "--share must be a number, got 'nan'."),
        (["s", "o", "--share", "[1]"], "--share must be a number, got '[1]'."),
        (["s", "o", "--share", "[1"], "--share must be a number, got '[1'."),
        (["s", "o", "--pair", "1"], "--pair needs 2 values."),
        (["s", "o", "--pair=1"], "--pair needs 2 values."),
        (["s", "o", "--pair", "1", "b"], "--pair must be a number, got 'b'."),
        (["s", "o", "--parts", "ab,cd"], "--parts must be one of ab, c d, got 'cd'. Did you mean c d?"),
        (["s", "o", "--parts", ""], "--parts must be one of ab, c d, got ''."),
        (["s", "o", "--kind", "dep"], "--kind must be one of flat, deep, got 'dep'. Did you mean deep?"),
        (["s", "o", "--strict=yes"], "--strict takes no value, got 'yes'."),
    ],
)
def test_slips_are_refused(words, message):
    with pytest.raises(ArgumentError) as caught:
        entry(probe)(words)
    assert str(caught.value).startswith(message)


def test_a_value_that_names_a_file_stays_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("s", "o", "x", "n"):
        Path(name).write_text("- 3\n")
    assert entry(probe)(["s", "o", "x", "--name", "n"]) == 7
    assert [seen[name] for name in ("src", "out", "extra", "name")] == ["s", "o", "x", "n"]


def test_help_is_printed_and_nothing_runs(capsys):
    seen.clear()
    for word in ("-h", "--help"):
        assert entry(probe)(["s", word, "--nonsense"]) == 0
        assert capsys.readouterr().out.startswith("usage: fastcell probe SRC OUT [EXTRA] [options]\n")
    assert seen == {}


@pytest.mark.parametrize(
    ("name", "meant"), [("--shard-cells", "--shard_cells"), ("--a_b-c", "--a_b_c"), ("-o", "-o"), ("a-b", "a-b")]
)
def test_dashes_and_underscores_are_alike(name, meant):
    assert folded(name) == meant


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name not in LIGHTNING_COMMANDS])
def test_every_option_may_be_written_with_either_sign(name):
    command = read_command(getattr(importlib.import_module(f"fastcell.cli.{name}"), name))
    for argument in command.arguments:
        for spelling in argument.spellings:
            if not spelling.startswith("--"):
                continue
            value = {0: [], 2: ["1", "2"]}.get(argument.num_values, [argument.choices[0] if argument.choices else "1"])
            places = [other.choices[0] if other.choices else "x" for other in command.positionals if other != argument]
            results = [
                parse_words(command, [*places, written, *value])
                for written in (spelling, "--" + spelling[2:].replace("_", "-"), folded(spelling))
            ]
            assert results[0] == results[1] == results[2]
            assert results[0][argument.dest] is not None


def test_an_option_that_stands_alone_needs_no_other_argument():
    def page(src: str, *, least: int, topics: Annotated[bool, Spelled(alone=True)] = False) -> int:
        """Probe.

        Args:
            src: source
            least: a number
            topics: print the topics
        """
        seen.clear()
        seen.update(locals())
        return 7

    assert entry(page)(["--topics"]) == 7
    assert seen == {"src": None, "least": None, "topics": True}
    assert entry(page)(["s", "--topics"]) == 7
    assert seen == {"src": "s", "least": None, "topics": True}
    for words in ([], ["--", "--topics"], ["s"]):
        with pytest.raises(ArgumentError, match="needed|required|missing|must be given|needs"):
            entry(page)(words)
