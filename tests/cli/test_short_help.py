"""Help on one screen: its options are there, with their defaults and choices."""

from __future__ import annotations

from typing import Any

import pytest

from fastcell.cli.fit import LIGHTNING_COMMANDS
from fastcell.cli.lightning_command import full_parser
from fastcell.cli.lightning_parser import choices_of
from fastcell.cli.options import PRESETS
from fastcell.cli.short_help import GROUPS, short_help


def default_of(parser: Any, name: str) -> Any:
    value = parser.get_defaults()
    for part in name.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_options_are_those_of_the_whole_parser(command: str) -> None:
    parser = full_parser(command)
    actions = {action.dest: action for action in parser._actions}
    for option in (option for options in GROUPS[command].values() for option in options):
        action = actions[option.name]
        for name in option.short.replace(",", "").split():
            assert name in action.option_strings
        choices = choices_of(getattr(action, "_typehint", None))
        if choices and option.name != "trainer.precision":
            assert option.kind == "|".join(choices), option.name
        if command != "fit" and option.default is not None:
            assert default_of(parser, option.name) == option.default, option.name


@pytest.mark.parametrize("preset", PRESETS)
def test_defaults_are_those_of_the_preset(preset: str) -> None:
    text = short_help("fit", [f"--preset={preset}"])
    parser = full_parser("fit", preset)
    lines = [line for line in text.splitlines() if "(" in line]
    for option in (option for options in GROUPS["fit"].values() for option in options):
        value = default_of(parser, option.name)
        if option.name in ("preset", "config", "trainer.precision") or value is None:
            continue
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        assert any(line.endswith(f"{option.text} ({shown})") for line in lines), (option.name, shown)


def test_help_fits_a_screen() -> None:
    for command in LIGHTNING_COMMANDS:
        lines = short_help(command, []).splitlines()
        assert len(lines) <= 60
        assert max(map(len, lines)) <= 110
        assert sum(line.startswith(f"  fastcell {command} ") for line in lines) == 2
