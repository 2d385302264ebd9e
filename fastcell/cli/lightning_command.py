"""The run of ``fit``, ``validate``, ``test`` and ``predict`` through Lightning's command line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from fastcell.cli.lightning_cli import FastcellCLI
from fastcell.cli.lightning_fit import FitCommand
from fastcell.cli.lightning_parser import place_positionals, same_spelling
from fastcell.cli.lightning_scores import ScoreCommand
from fastcell.cli.slips import refused_part
from fastcell.errors import ArgumentError, FastcellError
from fastcell.system import library_settings
from fastcell.system.messages import LineHandler
from fastcell.system.rank_errors import watch_parent
from fastcell.training.recipe import PRESETS
from fastcell.training.trainer import is_rank_zero


def run(command: str, arguments: list[str], callbacks: Sequence[pl.Callback] = ()) -> Path | None:
    """Run one of Lightning's commands.

    Args:
        command: fit, validate, test or predict.
        arguments: words after the name of the command.
        callbacks: further callbacks of the trainer.

    Returns:
        The run folder of ``fit`` on rank 0; None on other ranks, in a trial run and for other commands.

    Raises:
        FastcellError: the command fails. Arguments that Lightning refuses raise ArgumentError.
    """
    words = place_positionals(command, same_spelling(arguments))
    watch_parent()
    _show_remarks()
    library_settings.prepare_torch()
    try:
        if command == "fit":
            fit = FitCommand(words, callbacks)
            fit.execute()
            return fit.folder
        ScoreCommand(command, words, callbacks).execute()
    except MisconfigurationException as error:
        text = " ".join(str(error).split())
        raise ArgumentError(text) from error
    except FastcellError:
        raise
    except (ModuleNotFoundError, ValueError) as error:
        message = refused_part(str(error))
        if message is None:
            raise
        raise ArgumentError(message) from error
    return None


def _show_remarks() -> None:
    """Print the engine's messages about its choices, on rank 0."""
    remarks = logging.getLogger("fastcell")
    remarks.setLevel(logging.INFO)
    remarks.propagate = False
    for old in list(remarks.handlers):
        remarks.removeHandler(old)
    handler = LineHandler()
    handler.addFilter(lambda record: is_rank_zero())
    remarks.addHandler(handler)


class _Described(Exception):  # noqa: N818, carries a parser out of its maker
    """Raised with the parser of a command before it parses anything."""


def full_parser(command: str, preset: str = PRESETS[0]) -> LightningArgumentParser:
    """Return the parser of a command with all its options.

    Args:
        command: fit, validate, test or predict.
        preset: preset whose settings are the defaults of fit.
    """
    found = []

    def keep(self: FastcellCLI, parser: LightningArgumentParser, args: Any) -> None:
        found.append(parser)
        raise _Described

    with suppress(_Described):
        if command == "fit":
            type("ParserAlone", (FitCommand,), {"parse_arguments": keep})([f"--preset={preset}"])
        else:
            type("ParserAlone", (ScoreCommand,), {"parse_arguments": keep})(command, [])
    return found[0]
