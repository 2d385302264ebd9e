"""Help on one screen: its options are there, with their defaults and choices."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from fastcell.cli.lightning_command import full_parser
from fastcell.cli.lightning_options import GROUPS, LIGHTNING_COMMANDS, ShownOption, own_arguments
from fastcell.cli.options import PRESETS
from fastcell.cli.short_help import short_help
from fastcell.cli.signature import choices_of


def default_of(parser: Any, name: str) -> Any:
    value = parser.get_defaults()
    for part in name.split("."):
        value = value[part]
    return value


def shown(command: str) -> list[ShownOption]:
    return [option for options in GROUPS[command].values() for option in options if isinstance(option, ShownOption)]


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_options_are_those_of_the_whole_parser(command: str) -> None:
    parser = full_parser(command)
    actions = {action.dest: action for action in parser._actions}
    for option in shown(command):
        action = actions[option.name]
        for name in option.short.replace(",", "").split():
            assert name in action.option_strings
        choices = choices_of(getattr(action, "_typehint", None))
        if choices and option.name != "trainer.precision":
            assert option.kind == "|".join(choices), option.name
        if command != "fit" and option.default is not None:
            assert default_of(parser, option.name) == option.default, option.name


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_own_options_are_in_the_whole_parser(command: str) -> None:
    parser = full_parser(command)
    actions = {action.dest: action for action in parser._actions}
    own = own_arguments(command)
    for name, argument in own.items():
        assert (actions[name].option_strings[-1], actions[name].help) == (
            f"--{'out' if name == 'runs' else name}",
            argument.text,
        )
        assert argument.default in (default_of(parser, name), inspect.Parameter.empty)
    named = {option for options in GROUPS[command].values() for option in options if isinstance(option, str)}
    assert set(own) - named == ({"checkpoint_every_steps", "allow_absent"} if command == "fit" else {"ckpt_path"})


@pytest.mark.parametrize("preset", PRESETS)
def test_defaults_are_those_of_the_preset(preset: str) -> None:
    text = " ".join(short_help("fit", [f"--preset={preset}"]).split())
    parser = full_parser("fit", preset)
    for option in shown("fit"):
        value = default_of(parser, option.name)
        if option.name in ("config", "trainer.precision") or value is None:
            continue
        written = str(value).lower() if isinstance(value, bool) else str(value)
        assert f"{option.text} ({written})" in text, (option.name, written)


def test_help_fits_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for command in LIGHTNING_COMMANDS:
        lines = short_help(command, []).splitlines()
        assert len(lines) <= 60
        assert max(map(len, lines)) <= 100
        assert sum(line.startswith(f"  fastcell {command} ") for line in lines) == 2
