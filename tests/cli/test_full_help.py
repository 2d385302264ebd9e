"""Help of all options: every option of the parser, in the layout of the other helps."""

import re

import pytest

from fastcell.cli.full_help import full_help
from fastcell.cli.lightning_command import full_parser
from fastcell.cli.lightning_options import LIGHTNING_COMMANDS


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_every_option_is_there(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    parser = full_parser(command)
    text = full_help(command, parser)
    assert text.startswith(f"usage: fastcell {command} ")
    for action in parser._actions:
        names = [name for name in action.option_strings if re.fullmatch(r"--[\w.]+", name)]
        if action.dest.endswith("help") or action.help == "==SUPPRESS==":
            continue
        assert not names or re.search(rf"^  (-\w, )?(--\w+, )?{names[0]}\b", text, re.MULTILINE), names
    for word in ("`", "Linked", "typing.", "Literal", "None", "Union", ":class:", "==SUPPRESS==", "/presets/", "type:"):
        assert word not in text, word
    wide = [line for line in text.splitlines() if len(line) > 100]
    assert all(line.startswith("  --") for line in wide)


def test_choices_and_defaults(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = full_help("fit", full_parser("fit", "fast"))
    for line in (
        "  --data.image_size PX ",
        "  --data.fit stretch|contain|scale ",
        "  --trainer.profiler simple|advanced|pytorch|xla",
        "  --model.betas [X,...] ",
        "  -o, --runs, --out DIR ",
        "  --trainer.benchmark true|false ",
    ):
        assert f"\n{line}" in text, line
    flowing = " ".join(text.split())
    assert "[default: [0.9, 0.999]]" in flowing
    assert "--model.input_norm true|false" in flowing
    assert "Path to a configuration file" not in flowing
    assert re.findall(r"^([\w.]+):$", text, re.MULTILINE) == [
        "options", "trainer", "model", "data", "data.augmentation", "examples",
    ]  # fmt: skip
