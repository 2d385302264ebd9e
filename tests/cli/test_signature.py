"""Arguments from signatures and docstrings."""

from __future__ import annotations

import importlib
from typing import Annotated, Literal, NamedTuple, Optional

import pytest

from fastcell.cli.lightning_options import LIGHTNING_COMMANDS
from fastcell.cli.main import COMMANDS
from fastcell.cli.signature import REQUIRED, Spelled, choices_of, parts_of, read_command

TYPED = [name for name in COMMANDS if name not in LIGHTNING_COMMANDS]


class Shape(NamedTuple):
    """Shape of the probe.

    Attributes:
        size: side of the square,
            in pixels
        kind: what it is
    """

    size: int = 3
    kind: Literal["flat", "deep"] | None = None


def probe(
    src: str,
    out: Annotated[str, Spelled("OUT", also=("-o", "--out"))],
    *more: str,
    pair: Annotated[tuple[float, float] | None, Spelled("LO HI", former=("--range",))] = None,
    list_: list[Literal["a", "b"]] | None = None,
    strict: bool = False,
    hidden: Annotated[float, Spelled(shown=False)] = 1.5,
    shape: Shape,
) -> int:
    """Probe a source
    thoroughly.

    A note.

    table:
      a  b

    Args:
        src: where it comes from
        out: where it goes
        more: further ones
        pair: two numbers
        list_: names
        strict: be strict
        hidden: not shown
        shape: see Shape

    Examples:
        fastcell probe a b
        fastcell probe a b --strict

    Returns:
        0.
    """
    raise NotImplementedError


def test_a_function_describes_its_command():
    command = read_command(probe)
    assert (command.name, command.description) == ("probe", "Probe a source thoroughly.")
    assert command.notes == "A note.\n\ntable:\n  a  b"
    assert command.examples == ("fastcell probe a b", "fastcell probe a b --strict")
    assert command.usage == "fastcell probe SRC OUT MORE [MORE ...] [options]"
    arguments = {argument.dest: argument for argument in command.arguments}
    assert list(arguments) == ["src", "out", "more", "pair", "list_", "strict", "hidden", "size", "kind"]
    assert [name for name, argument in arguments.items() if argument.positional] == ["src", "out", "more"]
    assert [name for name, argument in arguments.items() if argument.default is REQUIRED] == ["src", "out", "more"]
    assert arguments["size"].text == "side of the square, in pixels"
    assert [arguments[name].group for name in ("pair", "size", "kind")] == ["options", "shape", "shape"]
    assert {name: argument.num_values for name, argument in arguments.items() if argument.num_values != 1} == {
        "pair": 2,
        "strict": 0,
    }
    assert arguments["out"].spellings == arguments["out"].shown_spellings == ("-o", "--out")
    assert arguments["pair"].spellings == ("--pair", "--range")
    assert arguments["pair"].shown_spellings == ("--pair",)
    assert arguments["list_"].flag == "--list"
    values = {name: argument.value for name, argument in arguments.items()}
    assert values == {
        "src": "SRC", "out": "OUT", "more": "MORE", "pair": "LO HI", "list_": "a,b", "strict": "", "hidden": "X",
        "size": "N", "kind": "flat|deep",
    }  # fmt: skip
    assert command.option_names == ["--help", "--out", "--pair", "--list", "--strict", "--size", "--kind", "--range"]


def test_values_reach_the_function():
    def repeated(*more: str, strict: bool = False, shape: Shape) -> int:
        """Probe.

        Args:
            more: further ones
            strict: be strict
            shape: see Shape
        """
        return len(more) + 10 * strict + 100 * shape.size

    command = read_command(repeated)
    assert command.call({"more": ["m", "n"], "strict": True, "size": 5, "kind": "deep"}) == 512


@pytest.mark.parametrize(
    ("hint", "parts", "choices"),
    [
        (str, [str], []),
        (int | None, [int], []),
        (Literal["a", "b"], [Literal["a", "b"]], ["a", "b"]),
        (Literal["a", "b"] | Literal["b", "c"] | None, [Literal["a", "b"], Literal["b", "c"]], ["a", "b", "c"]),
        (Literal["a"] | str, [Literal["a"], str], ["a"]),
        (list[Literal["a", "b"]] | None, [list[Literal["a", "b"]]], ["a", "b"]),
        (list[str], [list[str]], []),
        (Optional[Literal["a", 2]], [Literal["a", 2]], ["a", "2"]),  # noqa: UP045
        (bool, [bool], []),
        (Literal[64, 32], [Literal[64, 32]], ["64", "32"]),
    ],
)
def test_choices(hint, parts, choices):
    assert parts_of(hint) == parts
    assert choices_of(hint) == choices


@pytest.mark.parametrize("name", TYPED)
def test_every_argument_has_a_text(name):
    command = read_command(getattr(importlib.import_module(f"fastcell.cli.{name}"), name))
    assert command.name == name
    assert command.description.endswith(".")
    assert command.examples
    for argument in command.arguments:
        assert argument.text, argument.dest
        assert not argument.text.endswith("."), argument.dest


@pytest.mark.parametrize("name", TYPED)
def test_a_fixed_set_of_values_is_a_literal(name):
    """A text that the function compares with names, or that the help writes as names with bars, has choices."""
    command = read_command(getattr(importlib.import_module(f"fastcell.cli.{name}"), name))
    for argument in command.arguments:
        if "|" in argument.value and argument.dest != "folds":
            assert argument.choices == argument.value.split("|"), argument.dest
