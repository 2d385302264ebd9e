"""The command that a data card states: the same for equal calls, and one that the command line takes."""

import shlex

import pytest

from fastcell.cli.pack import pack as command
from fastcell.cli.parser import parse_words
from fastcell.cli.signature import read_command
from fastcell.packing.pack_command import pack_command
from fastcell.sources.registry import ReadOptions
from fastcell.splits.make_splits import SplitOptions


def test_defaults_are_left_out(tmp_path):
    assert pack_command(tmp_path / "my cells", ReadOptions(), SplitOptions(), {"seed": None}) == (
        "fastcell pack 'my cells' OUT"
    )


@pytest.mark.parametrize("shares", [(0.8, 0.0, 0.2), None])
def test_the_command_line_reads_what_was_given(tmp_path, shares):
    read = ReadOptions("{class}/{name}", "tiff", (40, 32), 2, tmp_path / "t.csv", pages="channels")
    split = SplitOptions(shares, 3 if shares else 0, "groups" if shares else None)
    settings = {"window": (0.0, 4095.5), "layout": "block", "licence": "CC BY 4.0", "allow_absent": True}
    text = pack_command(tmp_path / "src", read, split, settings)
    values = parse_words(read_command(command), shlex.split(text)[2:])
    assert (values["src"], values["out"], values["pattern"]) == ("src", "OUT", "{class}/{name}")
    assert (values["window"], values["layout"], values["licence"]) == ((0.0, 4095.5), "block", "CC BY 4.0")
    assert (values["format"], values["tile"], values["channel"], values["table"]) == ("tiff", "40x32", 2, "t.csv")
    assert values["split"] == ("80/0/20" if shares else "none")
    assert values["folds"] == ("groups" if shares else None)
    assert values["allow_absent"] is True
    assert str(tmp_path) not in text
