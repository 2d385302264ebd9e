"""Help on one screen: its options are there, with their defaults and choices."""

import inspect

import pytest

from fastcell.cli.class_arguments import first_sentence, plain_text
from fastcell.cli.lightning_command import full_parser
from fastcell.cli.lightning_options import GROUPS, LIGHTNING_COMMANDS, listed_options, own_arguments
from fastcell.cli.options import PRESETS
from fastcell.cli.short_help import short_help
from fastcell.cli.signature import choices_of


def default_of(parser, name):
    value = parser.get_defaults()
    for part in name.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_options_are_those_of_the_whole_parser(command):
    parser = full_parser(command)
    actions = {action.dest: action for action in parser._actions}
    listed = listed_options(command)
    assert {name for names in GROUPS[command].values() for name in names} <= set(listed)
    of_trainer = {name for name in actions if name.startswith("trainer.") and not name.endswith(".help")}
    new = {"trainer.enable_autolog_hparams", "trainer.model_registry"}  # absent from older versions of Lightning
    assert {name for name in listed if name.startswith("trainer.")} - new <= of_trainer
    for name, option in listed.items():
        if name not in actions or "-->" in actions[name].option_strings[0]:  # set by checkpoint, data or a link
            assert name.startswith(("data.", "model.")) or name in new, name
            continue
        for spelling in option.names.split(", "):
            assert spelling in actions[name].option_strings, name
        choices = choices_of(getattr(actions[name], "_typehint", None))
        if choices and name not in ("trainer.precision", "trainer.deterministic"):
            assert option.value == "|".join(choices), name
        if command != "fit" and option.default is not None:
            assert default_of(parser, name) == option.default, name


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_own_options_are_in_the_whole_parser(command):
    parser = full_parser(command)
    actions = {action.dest: action for action in parser._actions}
    own = own_arguments(command)
    for name, argument in own.items():
        assert (actions[name].option_strings[-1], actions[name].help) == (
            f"--{'out' if name == 'runs' else name}",
            argument.text,
        )
        assert argument.default in (default_of(parser, name), inspect.Parameter.empty)
    named = {option for options in GROUPS[command].values() for option in options}
    unnamed = {
        "fit": {"checkpoint_every_steps", "allow_absent", "trust", "teacher", "teacher_temperature", "teacher_share"},
        "predict": {"ckpt_path", "engine", "scheduler", "labels", "tile", "channel", "pages", "subtract_background"},
    }
    assert set(own) - named == unnamed.get(command, {"ckpt_path"})


@pytest.mark.parametrize("preset", PRESETS)
def test_defaults_are_those_of_the_preset(preset):
    text = " ".join(short_help("fit", [f"--preset={preset}"]).split())
    parser = full_parser("fit", preset)
    listed = listed_options("fit")
    for name in (name for names in GROUPS["fit"].values() for name in names):
        value = default_of(parser, name)
        if name in ("config", "trainer.precision") or value is None:
            continue
        written = str(value).lower() if isinstance(value, bool) else f"{value:g}" if type(value) is float else value
        sentence = first_sentence(plain_text(listed[name].text))
        assert f"{sentence} [default: {written}]" in text, name
