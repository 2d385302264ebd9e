"""Options of the trainer as this package describes them, against those of Lightning."""

import inspect

import pytorch_lightning as pl

from fastcell.cli.lightning_command import full_parser
from fastcell.cli.signature import arguments_of_group
from fastcell.cli.trainer_options import TrainerArguments


def test_each_option_has_a_text_and_lightnings_default():
    known = inspect.signature(pl.Trainer.__init__).parameters
    ours = full_parser("fit", "fast").get_defaults()["trainer"]
    for argument in arguments_of_group("", TrainerArguments):
        assert argument.text, argument.dest
        if argument.dest in known and argument.dest != "max_epochs":  # decided by the preset
            assert argument.default == ours[argument.dest], argument.dest
