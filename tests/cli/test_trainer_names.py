"""Names that the trainer takes: refused before anything takes time, with the nearest right one."""

import pytest
import pytorch_lightning as pl

from fastcell.cli.completion import options_of_command
from fastcell.cli.trainer_names import check_trainer_names, trainer_choices
from fastcell.errors import ArgumentError

SETTINGS = {
    "accelerator": "auto",
    "strategy": "auto",
    "gradient_clip_algorithm": None,
    "profiler": None,
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"accelerator": "gpuu"}, "--trainer.accelerator must be one of .*, got 'gpuu'. Did you mean gpu?"),
        ({"strategy": "dpp"}, "--trainer.strategy must be one of auto, ddp, .* got 'dpp'. Did you mean ddp?"),
        ({"gradient_clip_algorithm": "nrm"}, "must be one of norm, value, got 'nrm'. Did you mean norm?"),
        ({"profiler": "simpel"}, "must be one of simple, advanced, pytorch, xla, got 'simpel'. Did you mean simple?"),
    ],
)
def test_names_that_do_not_exist(changed, message):
    with pytest.raises(ArgumentError, match=message):
        check_trainer_names({**SETTINGS, **changed})


def test_names_that_exist_are_the_trainers():
    """Each name is taken by Lightning itself; objects and None pass."""
    check_trainer_names(SETTINGS)
    check_trainer_names({**SETTINGS, "strategy": pl.strategies.SingleDeviceStrategy(), "profiler": object()})
    for name in trainer_choices()["trainer.gradient_clip_algorithm"]:
        pl.Trainer(logger=False, accelerator="cpu", gradient_clip_algorithm=name)
    for name in trainer_choices()["trainer.profiler"][:-1]:  # the last needs a TPU
        pl.Trainer(logger=False, accelerator="cpu", profiler=name)
    assert trainer_choices()["trainer.strategy"][:3] == ["auto", "ddp", "deepspeed"]
    check_trainer_names({**SETTINGS, "strategy": "ddp_spawn"})


def test_completion_knows_them():
    choices = options_of_command("test").choices
    for option, names in trainer_choices().items():
        assert choices[f"--{option}"] == names
    assert choices["--data.quality"] == ["true", "false"]
