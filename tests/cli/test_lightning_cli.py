"""What all commands of Lightning refuse, and what a refused one leaves."""

import pytest
from fixtures.golden_files import run_command

from fastcell.cli.lightning_options import LIGHTNING_COMMANDS


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_seeds_out_of_range_are_named(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [] if command == "fit" else ["--ckpt_path=a.ckpt", "--data.path=cells", "--out=a.csv"]
    status, out, err = run_command([command, *words, "--seed_everything=-1"], capsys)
    assert (status, out) == (2, "")
    assert err.startswith("fastcell: error: --seed_everything must be ")
    assert list(tmp_path.iterdir()) == []


def test_a_trainer_that_lightning_refuses_leaves_no_folder(trained_data, tmp_path, capsys):
    words = [str(trained_data), "--runs", str(tmp_path / "runs"), "--trainer.accelerator=cpu"]
    status, _, err = run_command(["fit", *words, "--trainer.limit_train_batches=1.5"], capsys)
    assert status == 2
    assert "limit_train_batches" in err
    assert not any((tmp_path / "runs").glob("*"))
