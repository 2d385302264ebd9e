"""The trainer, and what auto means on this machine."""

from types import SimpleNamespace

import pytest
import torch

from fastcell.system import resources
from fastcell.training.trainer import build_trainer, fill_in, machine_precision


def test_a_trainer_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = build_trainer(torch.device("cpu"), max_steps=7, max_epochs=-1)
    assert trainer.strategy.root_device == torch.device("cpu")
    assert (trainer.precision, trainer.max_steps, trainer.max_epochs) == ("32-true", 7, -1)
    assert trainer.loggers == []
    assert trainer.checkpoint_callback is None
    assert trainer.progress_bar_callback is None
    assert not any(tmp_path.iterdir())


def test_settings_replace_the_defaults():
    trainer = build_trainer(torch.device("cpu"), precision="bf16-mixed", gradient_clip_val=0.5)
    assert (trainer.precision, trainer.gradient_clip_val) == ("bf16-mixed", 0.5)


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_open_settings_are_filled_in(monkeypatch, bf16, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    for has_gpu, expected in ((False, ("cpu", "32-true", True)), (True, ("gpu", precision, False))):
        monkeypatch.setattr(resources, "has_gpu", lambda answer=has_gpu: answer)
        settings = SimpleNamespace(accelerator="auto", precision=None, deterministic=None)
        fill_in(settings)
        assert (settings.accelerator, settings.precision, settings.deterministic) == expected
    given = SimpleNamespace(accelerator="cpu", precision="64-true", deterministic=False)
    fill_in(given)
    assert (given.precision, given.deterministic) == ("64-true", False)
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert machine_precision(False) == "32-true"
