"""The whole parser of Lightning's commands."""

import pytest

from fastcell.cli.lightning_command import full_parser
from fastcell.cli.lightning_options import LIGHTNING_COMMANDS


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_out_has_a_short_name_everywhere(command):
    names = [action.option_strings for action in full_parser(command)._actions if "--out" in action.option_strings]
    assert len(names) == 1
    assert "-o" in names[0]
