"""What Lightning's commands check before anything takes time, and what they take from a run."""

import pytest
import pytorch_lightning as pl
from fixtures.golden_files import run_command

from fastcell.cli.lightning_command import full_parser
from fastcell.cli.lightning_options import LIGHTNING_COMMANDS


@pytest.mark.parametrize("name", ["gpu", "cuda", "gpuu"])
def test_accelerators_that_are_not_there(name, tmp_path, monkeypatch, capsys):
    for accelerator in (pl.accelerators.CUDAAccelerator, pl.accelerators.MPSAccelerator):
        monkeypatch.setattr(accelerator, "is_available", staticmethod(lambda: False))
    monkeypatch.chdir(tmp_path)
    status, out, err = run_command(["fit", "cells", f"--trainer.accelerator={name}"], capsys)
    assert (status, out) == (2, "")
    assert err.startswith("fastcell: error: --trainer.accelerator must be one ")
    assert err.count("\n") == 1
    assert ("fastcell doctor" in err) == (name != "gpuu")
    assert ("Did you mean gpu?" in err) == (name == "gpuu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_out_has_a_short_name_everywhere(command):
    names = [action.option_strings for action in full_parser(command)._actions if "--out" in action.option_strings]
    assert len(names) == 1
    assert "-o" in names[0]


def test_a_folder_without_a_checkpoint_is_refused(tmp_path, capsys):
    status, _, err = run_command(["test", str(tmp_path)], capsys)
    assert status == 2
    assert "must be a checkpoint, or a run folder with a checkpoint" in err
