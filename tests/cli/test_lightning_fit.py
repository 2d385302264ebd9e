"""What fit checks before anything takes time."""

import pytest
import pytorch_lightning as pl
from fixtures.golden_files import run_command


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
