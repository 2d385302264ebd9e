"""Training: of a recipe in memory, and of a run with its folder; and the LightningCLI commands over both."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from fastcell.dataset.corrupt_cells import losses_table
from fastcell.errors import ArgumentError, FastcellError, StoppedError, invalid
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.plots.basic_figures import draw_confusion, draw_curves
from fastcell.predictions.table import check_output, write_table
from fastcell.runs.checkpoint import AtomicCheckpointIO, load_classifier, read_checkpoint
from fastcell.runs.run_folder import (
    CONFUSION_STEM,
    CORRUPT_CELLS_FILE,
    CURVE_FILE,
    CURVE_STEM,
    LAST_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    create_run_folder,
    write_confusion,
)
from fastcell.storage.whole_files import write_json, write_text
from fastcell.system import environment_report, library_settings, resources
from fastcell.system.lightning_internals import detach
from fastcell.training.curve_logger import CurveLogger
from fastcell.training.evaluate import (
    PART_WORDS,
    STAGE_OF_PART,
    evaluate,
    gather_corrupt_cells,
    has_labelled_cells,
    part_table,
    predict,
    print_corrupt_cells,
    print_on_rank_zero,
    score_part,
)
from fastcell.training.progress_bar import CellBar, EpochLines, Throughput
from fastcell.training.rank_watch import RankWatch, watch_parent
from fastcell.training.recipe import PRESETS, Recipe, preset_path
from fastcell.training.resume import ResumePoints, check_run, held, latest_point, remove_points
from fastcell.training.trainer import build_trainer, fill_in_settings


class TrainedNetwork(NamedTuple):
    """A network trained in memory.

    Attributes:
        model: with the chosen weights, on the trainer's device, in evaluation mode.
        seconds: of the training [s].
    """

    model: CellModule
    seconds: float


def build_model(recipe: Recipe, classes: list[str], preprocessing: Preprocessing) -> CellModule:
    """Return the network of a recipe with new weights, drawn from torch's random state."""
    return CellModule(**recipe.model, classes=classes, preprocessing=preprocessing.to_dict())


def train_recipe(
    recipe: Recipe,
    data: pl.LightningDataModule,
    classes: list[str],
    preprocessing: Preprocessing,
    seed: int,
    device: torch.device,
    **settings: Any,
) -> TrainedNetwork:
    """Train the network of a recipe in memory, without a run folder.

    Args:
        recipe: model, trainer, and which weights are chosen: the best ones are those of the least validation loss;
            without validation they are the last.
        data: batches of training and validation.
        classes: K names, in the order of the labels.
        preprocessing: of the images that `data` gives.
        seed: of torch's random state, which the start values come from.
        device: CPU or GPU.
        **settings: arguments of `pl.Trainer` that replace the recipe's.
    """
    torch.manual_seed(seed)
    model = build_model(recipe, classes, preprocessing)
    best = BestWeights()
    callbacks: list[pl.Callback] = [best] if recipe.select == "best" else []
    trainer = build_trainer(device, callbacks=callbacks, **{**recipe.trainer, **settings})
    start = time.perf_counter()
    fit_model(trainer, model, data)
    choose_weights(model, recipe.select, best.weights)
    seconds = time.perf_counter() - start
    detach(model)
    return TrainedNetwork(model.eval(), seconds)


def train(
    trainer: pl.Trainer,
    model: CellModule,
    data: CellDataModule,
    throughput: Throughput,
    folder: Path | None,
    ckpt_path: str | None = None,
    select: str = "best",
) -> None:
    """Train, evaluate the chosen weights on the test part and complete the run folder.

    Best is the epoch of least validation loss; without a validation part it is the last. Without a test part the
    validation part is scored, and the text says so.

    Args:
        trainer: with the `throughput` among its callbacks.
        model: with the data's classes.
        data: with labels.
        throughput: counts cells.
        folder: the run folder, on rank 0; None elsewhere, and in a trial run (fast_dev_run), which leaves nothing.
        ckpt_path: checkpoint to go on from.
        select: which weights are evaluated, best or last.
    """
    print_on_rank_zero(trainer, describe_training(trainer, model, data))
    fit_model(trainer, model, data, ckpt_path)
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    folder = Path(trainer.strategy.broadcast(str(folder)))
    trainer.save_checkpoint(folder / LAST_FILE)
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") if has_labelled_cells(data, "valid") else ""
    is_best = choose_weights(model, select, read_checkpoint(best)["state_dict"] if best and select == "best" else None)
    if select == "last":
        print_on_rank_zero(trainer, "The last weights are evaluated, not those of the least validation loss.")
    elif not is_best:
        print_on_rank_zero(trainer, "No validation part: the last weights are evaluated, not the best.")
    _complete_run_folder(trainer, model, data, throughput, folder, Path(best).name if is_best else LAST_FILE)


def fit_model(
    trainer: pl.Trainer, model: CellModule, data: pl.LightningDataModule, ckpt_path: str | None = None
) -> None:
    """Run the trainer to its end, from a checkpoint on if there is one; the model then has the last weights."""
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)


def choose_weights(model: CellModule, select: str, best: Mapping[str, torch.Tensor] | None) -> bool:
    """Put the best weights into a model that has been trained, where they are chosen and there are any.

    Args:
        model: with the last weights.
        select: best or last.
        best: `state_dict` of the least validation loss; None where nothing validated.

    Returns:
        Whether the model has the best weights now, not the last.
    """
    if select == "last" or best is None:
        return False
    model.load_state_dict(best)
    return True


class BestWeights(pl.Callback):
    """Keeps the weights of the least validation loss in the host's memory.

    Attributes:
        weights: their `state_dict`; None before the first validation.
    """

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] | None = None
        self._least = math.inf

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics["valid_loss"])
        if self.weights is None or loss < self._least:
            self._least = loss
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}


def _complete_run_folder(
    trainer: pl.Trainer, model: CellModule, data: CellDataModule, throughput: Throughput, folder: Path, used: str
) -> None:
    """Score the weights of checkpoint `used` and write what `fastcell.runs.run_folder.RUN_FILES` lists."""
    part = next((name for name in ("test", "valid") if has_labelled_cells(data, name)), None)
    values: dict[str, Any] = {"checkpoint": used, "epochs": trainer.current_epoch, "steps": trainer.global_step}
    if part is None:
        print_on_rank_zero(trainer, "No test part and no validation part: nothing to evaluate.")
    else:
        gathered, summary = score_part(trainer, model, data, part, folder)
        if trainer.is_global_zero:
            values[part] = summary
            write_table(folder / PREDICTIONS_FILE, part_table(model, data, part, gathered, truth=True))
            confusion = np.array(summary["confusion"], np.int64)
            write_confusion(folder / f"{CONFUSION_STEM}.csv", confusion, model.classes)
            about = f"{PART_WORDS[part]} part of {data.manifest.info.name}"
            draw_confusion(confusion, model.classes, folder / CONFUSION_STEM, about=about)
    reasons = gather_corrupt_cells(trainer, data)
    if trainer.is_global_zero:
        values["num_lost"] = len(reasons)
        if reasons:
            write_table(folder / CORRUPT_CELLS_FILE, losses_table(data.manifest, reasons))
        values["cells_per_s"] = {stage: round(throughput.rate(stage), 1) for stage in throughput.cells}
        values["seconds"] = {stage: round(seconds, 3) for stage, seconds in throughput.seconds.items()}
        values["train_waited_s"] = round(throughput.waited_s, 3)
        write_json(folder / METRICS_FILE, values)
        draw_curves(folder / CURVE_FILE, folder / CURVE_STEM, data.manifest.info.name)
        print(f"\ntraining {throughput.rate('train'):,.0f} cells/s", end="")
        print(f", evaluation {throughput.rate(STAGE_OF_PART[part]):,.0f} cells/s" if part else "")
        print_corrupt_cells(trainer, data, reasons)
        print(f"run folder {folder}", flush=True)


def describe_training(trainer: pl.Trainer, model: CellModule, data: CellDataModule) -> str:
    """Return what is trained on what, in two lines."""
    subsets = data.manifest.split(data.hparams["split_name"])
    cells = ", ".join(f"{part} {np.count_nonzero(subsets == part):,}" for part in ("train", "valid", "test"))
    kind = "synthetic cells" if data.info.synthetic else "cells"
    weights = sum(parameter.numel() for parameter in model.network.parameters())
    size = model.preprocessing["image_size"]
    return (
        f"{data.path}: {kind}, {len(data.classes)} class{'es' * (len(data.classes) != 1)}; {cells}\n"
        f"{model.hparams['network']}, {weights:,} weights, {size} x {size} pixels; batch {data.batch_size}, "
        f"{trainer.precision} on {trainer.world_size} x {trainer.strategy.root_device.type}, seed {data.seed}"
    )


COMMANDS = {
    "fit": "Train a classifier and evaluate it on the test part. With no arguments: on the synthetic default data.",
    "validate": "Evaluate a checkpoint on the validation part.",
    "test": "Evaluate a checkpoint on the test part.",
    "predict": "Classify every cell of a data set, labelled or not: one row per cell in manifest order.",
}
DEFAULT_SEED = 0
# A checkpoint decides these, and evaluation never augments.
OF_THE_CHECKPOINT = {"image_size", "fit", "scale_um_per_px", "normalization", "antialias", "depth"}
OF_TRAINING = {
    "batch_size",
    "augment",
    "augmentation",
    "balance",
    "subsample",
    "initial_fill",
    "store",
    "bank_gib",
    "steps_per_call",
}


def main(argv: list[str]) -> int:
    """Runs one command; `argv[0]` is its name. Returns the exit status; a FastcellError says what is wrong."""
    command, *arguments = argv
    if command not in COMMANDS:
        raise invalid("command", f"one of {', '.join(COMMANDS)}", command, "See fastcell --help")
    watch_parent()
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    _show_remarks()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(resources.num_cpus())
    try:
        FastcellCLI(command, arguments).execute()
    except MisconfigurationException as error:
        raise ArgumentError(" ".join(str(error).split())) from error
    return 0


def _show_remarks() -> None:
    """Prints what the engine says of its choices, on rank 0."""
    remarks = logging.getLogger("fastcell")
    remarks.setLevel(logging.INFO)
    remarks.propagate = False
    for old in list(remarks.handlers):
        remarks.removeHandler(old)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: _is_rank_zero())
    remarks.addHandler(handler)


class FastcellCLI(LightningCLI):
    """One command: parses its arguments and builds trainer, model and data; `execute` then runs it.

    The settings are those of the preset, then of `--config` files, then flags. Commands other than fit take the
    model, its classes and its preprocessing from a checkpoint.
    """

    def __init__(self, command: str, arguments: list[str]) -> None:
        self.command = command
        parser_kwargs: dict[str, Any] = {"prog": f"fastcell {command}", "description": COMMANDS[command]}
        if command == "fit":
            folder = _value_of("--resume", arguments)
            if folder is not None:
                check_run(Path(folder))
                arguments = ["--config", str(Path(folder) / "config.yaml"), *arguments]
            preset = _value_of("--preset", arguments) or PRESETS[0]
            parser_kwargs["default_config_files"] = [str(preset_path(preset))]
        super().__init__(
            CellModule,
            CellDataModule,
            save_config_callback=None,
            trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False, "log_every_n_steps": 1},
            seed_everything_default=DEFAULT_SEED,
            parser_kwargs=parser_kwargs,
            args=arguments,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(pl.Trainer, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})
        skip = set() if self.command == "fit" else OF_THE_CHECKPOINT | OF_TRAINING
        if self.command == "fit":
            parser.add_lightning_class_args(CellModule, "model")
        parser.add_class_arguments(CellDataModule, "data", sub_configs=True, skip=skip)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        if self.command == "fit":
            parser.add_argument("--preset", type=Literal[PRESETS], default=PRESETS[0], help="packaged settings")
            parser.add_argument("--runs", type=str, default="runs", help="folder that gets the run folder")
            parser.add_argument(
                "--resume", type=str | None, default=None, help="folder of a run that was stopped: go on in it"
            )
            parser.add_argument(
                "--ckpt_path", type=str | None, default=None, help="checkpoint to go on from, in a new run folder"
            )
            parser.add_argument(
                "--checkpoint_every_steps", type=int | None, default=None, help="steps between points to go on from"
            )
            parser.add_argument(
                "--checkpoint_every_minutes", type=float | None, default=5.0, help="likewise in minutes (null: none)"
            )
            parser.add_argument(
                "--select",
                type=Literal["best", "last"],
                default="best",
                help="weights that are evaluated: of the least validation loss, or of the last step",
            )
            parser.link_arguments(
                ("data.classes", "data.path"), "model.classes", compute_fn=_classes_of, apply_on="instantiate"
            )
            parser.link_arguments("model.steps_per_call", "data.steps_per_call")
            parser.link_arguments(
                "data.preprocessing", "model.preprocessing", compute_fn=Preprocessing.to_dict, apply_on="instantiate"
            )
            return
        parser.add_argument("--ckpt_path", type=str, required=True, help="checkpoint in a run folder")
        parser.add_argument("--tta", type=bool, default=False, help="average over the four flips of every image")
        if self.command == "predict":
            parser.add_argument("--out", type=str, required=True, help="file to write, .csv, .parquet or .fcs")
        else:
            parser.add_argument("--out", type=str | None, default=None, help="predictions, .csv, .parquet or .fcs")

    def instantiate_classes(self) -> None:
        """Builds data, model and trainer; what can be wrong is looked at before anything takes time."""
        if self.command == "fit":
            if self.config.ckpt_path is not None and self.config.resume is None:
                read_checkpoint(self.config.ckpt_path)
            try:
                super().instantiate_classes()
            except ValueError as error:  # jsonargparse wraps what a link's function raises
                raise (error.__cause__ if isinstance(error.__cause__, ArgumentError) else error) from None
            return
        self.out = None if self.config.out is None else check_output(self.config.out)
        self.model = load_classifier(self.config.ckpt_path)
        self.model.hparams["tta"] = self.config.tta
        self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule = self.config_init.data
        self.datamodule.use_preprocessing(Preprocessing.from_dict(self.model.preprocessing), self.model.classes)
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer, with what auto means on this machine filled in, and in fit with the run folder as its place."""
        settings = self.config.trainer
        fill_in_settings(settings)
        self.throughput, self.ranks = Throughput(), RankWatch()
        callbacks = [*(self.config_init.trainer.callbacks or []), self.throughput, self.ranks]
        if settings.enable_progress_bar is not False and not _is_terminal():
            settings.enable_progress_bar = False
            callbacks.append(EpochLines(self.throughput))
        elif settings.enable_progress_bar is not False:
            callbacks.append(CellBar(self.throughput))
        names = ("accelerator", "precision", "deterministic", "enable_progress_bar")
        kwargs = {**{name: settings[name] for name in names}, **kwargs}
        self.folder: Path | None = None
        self.points: ResumePoints | None = None
        self.ckpt_path = self.config.ckpt_path
        if self.command != "fit" or settings.fast_dev_run:
            kwargs.update(logger=False, enable_checkpointing=False)
        else:
            if self.config.resume is not None:
                self.ckpt_path = self._point_to_go_on_from(Path(self.config.resume))
            if _is_rank_zero():
                self.folder = Path(self.config.resume) if self.config.resume is not None else self._make_run_folder()
            if settings.logger in (None, True):
                kwargs["logger"] = CurveLogger(self.folder, self.ckpt_path) if self.folder is not None else False
            every = self.config.checkpoint_every_steps, self.config.checkpoint_every_minutes
            self.points = ResumePoints(self.folder, *every)
            callbacks += [self._checkpointing(), self.points]
        plugins = self.config_init.trainer.plugins or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        return super().instantiate_trainer(**kwargs, callbacks=callbacks)

    def execute(self) -> None:
        """Runs the command. A run that fails before its first checkpoint leaves no folder."""
        try:
            if self.command == "fit":
                with held(self.folder) if self.folder is not None else nullcontext():
                    parts = (self.trainer, self.model, self.datamodule, self.throughput, self.folder)
                    train(*parts, self.ckpt_path, self.config.select)
                if self.folder is not None:
                    remove_points(self.folder)
            elif self.command == "predict":
                assert self.out is not None  # required
                checkpoint = Path(self.config.ckpt_path)
                predict(self.trainer, self.model, self.datamodule, self.throughput, self.out, checkpoint)
            else:
                part = "valid" if self.command == "validate" else "test"
                evaluate(self.trainer, self.model, self.datamodule, self.throughput, part, self.out)
        except SIGTERMException:
            number = self.points.stopped_by if self.points is not None else None
            raise self._stopped(number or signal.SIGTERM) from None
        except RuntimeError as error:  # as a collective operation does whose partner is gone
            died = self.ranks.who_died() if self.trainer.world_size > 1 else None
            if died is None:
                raise
            raise FastcellError(f"{died}; this run ends, and can be resumed.") from error
        except SystemExit:
            if self.trainer.interrupted:  # Lightning turns Ctrl-C into exit status 1
                raise KeyboardInterrupt from None
            raise
        finally:
            if self.folder is not None and self.config.resume is None and not any(self.folder.glob("*.ckpt")):
                shutil.rmtree(self.folder)

    def _stopped(self, number: int) -> StoppedError:
        name = signal.Signals(number).name
        if self.command == "predict":
            return StoppedError(f"stopped by {name}. The same command goes on from there.", number)
        if self.folder is None or not any(self.folder.glob("*.ckpt")):
            return StoppedError(f"stopped by {name}.", number)
        step = self.trainer.global_step
        return StoppedError(
            f"stopped by {name} after step {step:,}. Go on with `fastcell fit --resume {self.folder}`.", number
        )

    def _point_to_go_on_from(self, folder: Path) -> str | None:
        point, torn = latest_point(folder)
        if _is_rank_zero():
            for path in torn:
                print(f"{path} is torn and left aside")
            where = "its beginning: no step was saved" if point is None else str(point)
            print(f"going on from {where}", flush=True)
            self._check_threads(folder)
        return None if point is None else str(point)

    def _check_threads(self, folder: Path) -> None:
        """The sums of several threads are rounded in another order."""
        try:
            before = json.loads((folder / "environment.json").read_text(encoding="utf-8")).get("torch_threads")
        except (OSError, ValueError):
            return
        if before != torch.get_num_threads():
            print(
                f"this run began with {before} threads and goes on with {torch.get_num_threads()}: the weights will be "
                f"equal but for rounding. OMP_NUM_THREADS={before} repeats them bit by bit."
            )

    def _make_run_folder(self) -> Path:
        folder = create_run_folder(Path(self.config.runs), self.config.preset)
        write_text(folder / "config.yaml", self.parser.dump(self.config, skip_unset=False))
        environment_now = {**environment_report.report(probe=False), "torch_threads": torch.get_num_threads()}
        write_json(folder / "environment.json", environment_now)
        return folder

    def _checkpointing(self) -> ModelCheckpoint:
        place: dict[str, Any] = {"dirpath": self.folder, "enable_version_counter": False}
        if has_labelled_cells(self.datamodule, "valid") and self.config.trainer.limit_val_batches != 0:
            return ModelCheckpoint(filename="best", monitor="valid_loss", save_last=True, **place)
        return ModelCheckpoint(filename="last", **place)


def _classes_of(classes: list[str], path: str) -> list[str]:
    """The class names that training needs. Raises ArgumentError where the data have none."""
    if not classes:
        raise ArgumentError(
            f"{path} must have labels to train on, got none. Pack it with a --pattern that has {{class}}; "
            "fastcell predict takes data without labels."
        )
    return classes


def _is_rank_zero() -> bool:
    """Whether this process is rank 0, from the launcher's variables: there is no trainer yet that knows."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def _is_terminal() -> bool:
    return sys.stderr.isatty() and sys.stdout.isatty()


def _value_of(name: str, arguments: list[str]) -> str | None:
    """The value of an option among the arguments that is needed before they can be parsed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(name, dest="value")
    value = parser.parse_known_args(arguments)[0].value
    return None if value is None else str(value)
