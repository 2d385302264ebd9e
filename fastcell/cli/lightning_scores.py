"""The run of ``validate``, ``test`` and ``predict``, with the model and the data of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser

from fastcell.cli.backend_of_ranks import use_backend
from fastcell.cli.lightning_cli import FastcellCLI
from fastcell.cli.next_steps import after_predict, run_words, show_next
from fastcell.cli.options import packages_of
from fastcell.cli.predict_files import FilesToPredict
from fastcell.cli.trainer_names import check_trainer_names
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.preprocessing import Preprocessing
from fastcell.predictions.table import check_output
from fastcell.runs.checkpoint import load_classifier
from fastcell.runs.open_run import read_data_settings
from fastcell.runs.run_folder import CONFIG_FILE, find_checkpoint
from fastcell.training.evaluate import evaluate, predict
from fastcell.training.precision_choice import SAFE
from fastcell.training.preflight import check_devices, check_scored_batches
from fastcell.training.progress_bar import Throughput
from fastcell.training.rank_watch import RankWatch
from fastcell.training.stop_signals import told_how_it_ended
from fastcell.training.trainer import is_rank_zero, resolve_settings

# A checkpoint decides these, and evaluation never augments.
OF_THE_CHECKPOINT = {"image_size", "fit", "scale_um_per_px", "normalization", "antialias", "depth"}
OF_TRAINING = {
    "batch_size",
    "augment",
    "augmentation",
    "balance",
    "balance_cap",
    "subsample",
    "initial_fill",
    "store",
    "bank_gib",
    "steps_per_call",
}


class ScoreCommand(FastcellCLI):
    """A command that takes the model, its classes and its preprocessing from a checkpoint."""

    files: FilesToPredict | None = None

    def add_parts(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(CellDataModule, "data", sub_configs=True, skip=OF_THE_CHECKPOINT | OF_TRAINING)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer. Settings are checked before anything takes time."""
        check_trainer_names(self.config.trainer)
        check_devices(self.config.trainer)
        check_scored_batches(self.command, self.config.trainer)
        self.out = None if self.config.out is None else check_output(self.config.out)
        self.config.ckpt_path = str(find_checkpoint(Path(self.config.ckpt_path)))
        if self.command == "predict":
            self.files = FilesToPredict.of(self.config)
            if self.files is not None:
                return
        self.model = load_classifier(self.config.ckpt_path, packages_of(self.config.trust))
        self._take_data_of_the_run(Path(self.config.ckpt_path).parent)
        if self.config.tta is None:
            self.config.tta = bool(self.model.hparams["tta"])
        self.model.hparams["tta"] = self.config.tta
        if self.command == "predict":
            use_backend(self.config, self.model)
            if self.config.data.dtype == "auto" and _computes_in_float32(self.config.trainer):
                self.config.data.dtype = "float32"  # images from which cells unlike those of training are found
        self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule = self.config_init.data
        self.datamodule.use_preprocessing(Preprocessing.from_dict(self.model.preprocessing), self.model.classes)
        self.trainer = self.instantiate_trainer()

    def _take_data_of_the_run(self, folder: Path) -> None:
        """Use the data set and the split of the run for evaluation, unless others are given."""
        if self.config.data.path is not None or not (folder / CONFIG_FILE).is_file():
            return
        settings = read_data_settings(folder)
        self.config.data.path = settings.get("path")
        if self.config.data.split_name == "default":
            self.config.data.split_name = str(settings.get("split_name", "default"))

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer, with automatic settings resolved."""
        resolved = resolve_settings(self.config.trainer, None, lambda: SAFE)
        self.throughput, self.ranks = Throughput(), RankWatch()
        return self.build_trainer(resolved, [], **kwargs, logger=False, enable_checkpointing=False)

    def execute(self) -> None:
        """Score or predict, and write the table."""
        checkpoint = Path(self.config.ckpt_path)
        if self.files is not None:
            assert self.out is not None  # required
            self.files.predict(self.out)
            show_next(*after_predict(self.out, checkpoint))
            return
        predicts = self.command == "predict"
        with told_how_it_ended(self.trainer, self.ranks, None, None, resumed=False, repeatable=predicts):
            parts = (self.trainer, self.model, self.datamodule, self.throughput)
            if predicts:
                assert self.out is not None  # required
                predict(*parts, self.out, checkpoint, self.config.min_confidence, self.config.accuracy)
                if is_rank_zero():
                    show_next(*after_predict(self.out, checkpoint))
                return
            part = "valid" if self.command == "validate" else "test"
            evaluate(*parts, part, self.out)
            run = run_words(checkpoint)
            if is_rank_zero() and run:
                show_next(("test", *run, self.datamodule.path) if part == "valid" else ("report", *run))


def _computes_in_float32(settings: Any) -> bool:
    """Return True if the weights of the network are float32, alone or in mixed precision."""
    return str(settings.precision or "32") not in ("16", "bf16", "16-true", "bf16-true", "transformer-engine")
