"""Lightning's command line with our settings: what `fit`, `validate`, `test` and `predict` share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from fastcell.cli.lightning_options import own_arguments
from fastcell.cli.lightning_parser import FastcellLightningParser
from fastcell.cli.options import check_seed
from fastcell.cli.short_help import DESCRIPTIONS
from fastcell.cli.signature import REQUIRED, folded
from fastcell.cli.slips import refused_part
from fastcell.errors import ArgumentError
from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import AtomicCheckpointIO
from fastcell.training.progress_bar import Throughput
from fastcell.training.rank_watch import RankWatch
from fastcell.training.trainer import progress_callbacks

DEFAULT_SEED = 0


class FastcellCLI(LightningCLI):
    """One command: parses its arguments and builds trainer, model and data; `execute` then runs it.

    The settings are those of the preset, then of `--config` files, then flags.

    Args:
        command: fit, validate, test or predict.
        arguments: words after the name of the command.
        callbacks: further callbacks of the trainer.
        default_files: files of settings that come before all others.
    """

    trainer: pl.Trainer
    model: CellModule
    datamodule: CellDataModule
    throughput: Throughput
    ranks: RankWatch

    def __init__(
        self,
        command: str,
        arguments: list[str],
        callbacks: Sequence[pl.Callback] = (),
        default_files: Sequence[Path] = (),
    ) -> None:
        self.command, self.callbacks = command, list(callbacks)
        parser_kwargs: dict[str, Any] = {"prog": f"fastcell {command}", "description": DESCRIPTIONS[command]}
        if default_files:
            parser_kwargs["default_config_files"] = [str(path) for path in default_files]
        super().__init__(
            CellModule,
            CellDataModule,
            save_config_callback=None,
            trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False, "log_every_n_steps": 1},
            seed_everything_default=DEFAULT_SEED,
            parser_kwargs=parser_kwargs,
            args=arguments,
            parser_class=FastcellLightningParser,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(pl.Trainer, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})
        self.add_parts(parser)

    def add_parts(self, parser: LightningArgumentParser) -> None:
        """Add the arguments of model and data that the command has."""
        raise NotImplementedError

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for argument in own_arguments(self.command).values():
            names = [folded(name) for name in argument.shown_spellings]
            needed = argument.default is REQUIRED
            default = {} if needed else {"default": argument.default}
            more: dict[str, Any] = {"type": argument.hint}
            if argument.num_values == 0:  # --tta, or --tta true
                more |= {"nargs": "?", "const": True}
            elif argument.num_values > 1:
                more |= {"type": float, "nargs": argument.num_values}
            parser.add_argument(*names, required=needed, help=argument.text, **default, **more)

    def _set_seed(self) -> None:
        seed = self.config.get("seed_everything")
        if isinstance(seed, int) and not isinstance(seed, bool):
            check_seed("--seed_everything", seed)
        super()._set_seed()

    def build_trainer(self, resolved: dict[str, Any], callbacks: Sequence[pl.Callback], **kwargs: Any) -> pl.Trainer:
        """Build the trainer, with the callbacks of the user before ours.

        Args:
            resolved: automatic settings of the trainer as they were resolved.
            callbacks: of the command.
            kwargs: further arguments of the trainer.

        Raises:
            ArgumentError: Lightning refuses a setting.
        """
        users = self.config_init.trainer.callbacks or []
        plugins = self.config_init.trainer.plugins or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        own = [self.throughput, self.ranks, *progress_callbacks(self.config.trainer, self.throughput), *self.callbacks]
        every = [*(users if isinstance(users, list) else [users]), *own, *callbacks]
        try:
            trainer = super().instantiate_trainer(
                **{**resolved, "enable_progress_bar": False, **kwargs}, callbacks=every
            )
            self.check_built(trainer)
            return trainer
        except (MisconfigurationException, ModuleNotFoundError, ValueError, TypeError) as error:
            self.undo()
            raise ArgumentError(refused_part(str(error)) or " ".join(str(error).split())) from error

    def check_built(self, trainer: pl.Trainer) -> None:
        """Check the trainer of the command."""

    def undo(self) -> None:
        """Remove what the command has made before its trainer was refused."""
