"""The run of ``fit``: where it starts, what its run folder records, and how it ends."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.loggers import Logger

from fastcell.cli.class_paths import check_parts_of_run, join_class_paths
from fastcell.cli.lightning_cli import FastcellCLI
from fastcell.cli.lightning_parser import allow_auto_precision, value_of
from fastcell.cli.next_steps import show_next
from fastcell.cli.options import packages_of
from fastcell.cli.shorter_training import shorter_length
from fastcell.cli.trainer_names import check_trainer_names
from fastcell.errors import ArgumentError
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.models.network_parts import parse_freeze
from fastcell.runs.run_folder import CONFIG_FILE, ENVIRONMENT_FILE
from fastcell.storage.locks import hold_run_folder
from fastcell.storage.whole_files import read_json_file
from fastcell.system.messages import print_line
from fastcell.system.own_parts import import_trusted
from fastcell.system.text import join_lines
from fastcell.training.best_weights import BALANCED, PLAIN, checkpoint_callback
from fastcell.training.curve_logger import CurveLogger
from fastcell.training.distillation.teacher import Teacher
from fastcell.training.evaluate import has_labelled_cells
from fastcell.training.fit import train
from fastcell.training.precision_choice import SAFE, time_precisions
from fastcell.training.preflight import check_trainer, check_trainer_settings
from fastcell.training.progress_bar import Throughput
from fastcell.training.rank_watch import RankWatch
from fastcell.training.recipe import PRESETS, preset_path
from fastcell.training.resume import ResumePoints, check_run, check_start, plan_resumption, remove_points
from fastcell.training.run_record import Resumption, RunRecord, make_run_folder
from fastcell.training.same_settings import flat_settings
from fastcell.training.start_weights import StartWeights, check_unchanged, start_from
from fastcell.training.stop_signals import told_how_it_ended
from fastcell.training.trainer import check_trains, choose_steps_per_call, is_rank_zero, resolve_settings


class FitCommand(FastcellCLI):
    """The command ``fit``: settings of a preset, of a resumed run, or of the user."""

    resumption: Resumption | None
    folder: Path | None = None
    points: ResumePoints | None = None

    def __init__(self, arguments: list[str], callbacks: Sequence[pl.Callback] = ()) -> None:
        arguments = join_class_paths(arguments)
        trust = packages_of(value_of("--trust", arguments))
        folder = value_of("--resume", arguments)
        if folder is not None:
            check_run(Path(folder))
            check_parts_of_run(Path(folder) / CONFIG_FILE, arguments, trust)
            arguments = ["--config", str(Path(folder) / "config.yaml"), *arguments]
        elif value_of("--start_from", arguments) is not None:
            arguments = [*shorter_length(arguments), *arguments]
        import_trusted(trust)
        preset = value_of("--preset", arguments) or PRESETS[0]
        super().__init__("fit", arguments, callbacks, [preset_path(preset)])

    def add_parts(self, parser: LightningArgumentParser) -> None:
        allow_auto_precision(parser)
        parser.add_lightning_class_args(CellModule, "model")
        parser.add_class_arguments(CellDataModule, "data", sub_configs=True)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        _link_fit_arguments(parser)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer. Settings are checked before anything takes time."""
        check_trainer_names(self.config.trainer)
        self._plan()
        if self.finished:
            return
        try:
            super().instantiate_classes()
        except ValueError as error:  # jsonargparse wraps errors raised in the function of a link
            raise (error.__cause__ if isinstance(error.__cause__, ArgumentError) else error) from None

    def _plan(self) -> None:
        """Decide where training starts. Refuse settings that differ from those of the run, or that train nothing."""
        check_trainer_settings(self.config.trainer)
        check_trains(self.config.trainer)
        config = self.config.clone()
        config.resume = config.trust = None  # of this command alone
        self.asked = self.parser.dump(config, skip_unset=False)
        self.settings = flat_settings(yaml.safe_load(self.asked))
        self.finished, self.resumption = False, None
        if self.config.resume is not None:
            self.resumption = plan_resumption(Path(self.config.resume), self.settings, print_line)
            self.finished = self.resumption is None
        elif self.config.ckpt_path is not None:
            if self.config.start_from is not None:
                raise ArgumentError(
                    "--start_from must be given without --ckpt_path, which continues a training with its optimizer. "
                    "Leave one out."
                )
            self.resumption = check_start(self.config.ckpt_path, self.settings)
        self._resolve_steps_per_call()

    def _resolve_steps_per_call(self) -> None:
        """Choose the optimizer steps of a call if they are left open; a resumed run keeps them."""
        if self.config.model.steps_per_call is not None:
            return
        before = None if self.resumption is None else self.resumption.resolved.get("model.steps_per_call")
        num = before or (1 if self.config.teacher is not None else choose_steps_per_call(self.config.trainer))
        self.config.model.steps_per_call = self.config.data.steps_per_call = num

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer, with automatic settings resolved; its root folder is the run folder."""
        settings, resumption = self.config.trainer, self.resumption
        started, teacher = self._start_weights(), self._open_teacher()
        before = resumption and resumption.resolved.get("trainer.precision")
        resolved = resolve_settings(settings, before, self._time_precisions)
        self.throughput, self.ranks = Throughput(), RankWatch()
        self.ckpt_path = self.config.ckpt_path if resumption is None else resumption.point
        if settings.fast_dev_run:
            return self.build_trainer(resolved, [], **kwargs, logger=False, enable_checkpointing=False)
        resumed = self.config.resume
        monitor = (resumption and resumption.monitor) or self._monitor()
        if is_rank_zero():
            self.folder = Path(resumed) if resumed is not None else self._make_run_folder()
        every = self.config.checkpoint_every_steps, self.config.checkpoint_every_minutes
        self.points = ResumePoints(self.folder, *every, self.settings)
        record = RunRecord(self.folder, self.asked, None if resumed is None else resumption, started, teacher)
        validates = has_labelled_cells(self.datamodule, "valid") and settings.limit_val_batches != 0
        callbacks = [record, checkpoint_callback(self.folder, validates, monitor), self.points]
        return self.build_trainer(resolved, callbacks, **kwargs, logger=self._loggers())

    def check_built(self, trainer: pl.Trainer) -> None:
        check_trainer(trainer, self.model, self.datamodule, self.config.trainer)

    def undo(self) -> None:
        if self.folder is not None and self.config.resume is None:
            shutil.rmtree(self.folder)

    def _start_weights(self) -> StartWeights | None:
        """Load the weights of another run, unless this run resumes from a point of its own."""
        if self.config.start_from is None or (self.resumption is not None and self.resumption.point is not None):
            return None
        started = start_from(self.model, Path(self.config.start_from))
        if self.config.resume is not None:
            environment = read_json_file(Path(self.config.resume) / ENVIRONMENT_FILE)
            check_unchanged(started, environment.get("started_from") if isinstance(environment, dict) else None)
        if is_rank_zero():
            print_line(join_lines(started.describe()))
        return started

    def _open_teacher(self) -> dict[str, Any] | None:
        """Set up the teacher network if one is given; return its record for the run folder."""
        config = self.config
        if config.teacher is None:
            return None
        numbers = config.teacher_temperature, config.teacher_share
        teacher = Teacher(Path(config.teacher), self.model, self.datamodule, *numbers, packages_of(config.trust))
        if config.resume is not None:
            environment = read_json_file(Path(config.resume) / ENVIRONMENT_FILE)
            teacher.check_unchanged_since(environment.get("teacher") if isinstance(environment, dict) else None)
        if is_rank_zero():
            print_line(teacher.describe())
        self.model.add_losses = teacher.add_losses
        return teacher.record()

    def execute(self) -> None:
        """Train. A run that fails before its first checkpoint leaves no folder."""
        resumed = self.config.resume
        if self.finished:
            if is_rank_zero():
                remove_points(Path(resumed))  # a run that was killed after its last score still has them
                print_line(f"{resumed} is finished, nothing to do.")
                show_next(("report", resumed), ("explain", resumed))
            return
        with told_how_it_ended(
            self.trainer, self.ranks, self.points, self.folder, resumed=resumed is not None, repeatable=False
        ):
            with hold_run_folder(self.folder) if self.folder is not None else nullcontext():
                parts = (self.trainer, self.model, self.datamodule, self.throughput, self.folder)
                train(*parts, self.ckpt_path, self.config.select, self.config.allow_absent)
            if self.folder is not None:
                remove_points(self.folder)
                show_next(("report", self.folder), ("explain", self.folder))

    def _loggers(self) -> list[Logger] | bool:
        """Return the loggers: on rank 0 the record of the run, and the loggers that the user requested."""
        asked = self.config_init.trainer.logger
        users = [] if asked in (None, True, False) else asked if isinstance(asked, list) else [asked]
        own = [] if self.folder is None else [CurveLogger(self.folder, self.ckpt_path)]
        return [*own, *users] or False

    def _time_precisions(self) -> str:
        """Return the faster precision on this CPU; float32 for several processes, whose results might differ."""
        settings = self.config.trainer
        if str(settings.devices) not in ("auto", "1") or settings.num_nodes != 1:
            if is_rank_zero():
                print_line(f"precision {SAFE}: --trainer.precision auto times one process only, and there are several")
            return SAFE
        timing = time_precisions(self.model, self.datamodule.batch_size)
        print_line(timing.describe())
        return timing.choice

    def _monitor(self) -> str:
        """Return the loss that selects the best weights."""
        with suppress(ArgumentError):  # data that cannot be used for training are refused later
            if self.datamodule.emphasis is not None:
                return BALANCED
        return PLAIN

    def _make_run_folder(self) -> Path:
        network = self.model.network_name
        return make_run_folder(Path(self.config.runs), self.datamodule.info.name, network, self.asked)


def _link_fit_arguments(parser: LightningArgumentParser) -> None:
    parser.link_arguments(
        ("data.classes", "data.path"), "model.classes", compute_fn=_classes_of, apply_on="instantiate"
    )
    parser.link_arguments("model.steps_per_call", "data.steps_per_call", compute_fn=_one_if_open)
    parser.link_arguments("freeze", "model.freeze", compute_fn=parse_freeze)
    parser.link_arguments(
        "data.preprocessing", "model.preprocessing", compute_fn=Preprocessing.to_dict, apply_on="instantiate"
    )


def _one_if_open(steps_per_call: int | None) -> int:
    return steps_per_call or 1


def _classes_of(classes: list[str], path: str) -> list[str]:
    """Return the class names, which training needs. Raise ArgumentError if the data have none."""
    if not classes:
        raise ArgumentError(
            f"{path} must have labels to train on, got none. Pack it with a --pattern that has {{class}}; "
            "fastcell predict takes data without labels."
        )
    return classes
