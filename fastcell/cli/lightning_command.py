"""The run of ``fit``, ``validate``, ``test`` and ``predict``: Lightning's command line with our settings."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from fastcell.cli.backend_of_ranks import use_backend
from fastcell.cli.class_paths import check_parts_of_run, join_class_paths
from fastcell.cli.lightning_options import own_arguments
from fastcell.cli.lightning_parser import (
    FastcellLightningParser,
    allow_auto_precision,
    place_positionals,
    same_spelling,
    value_of,
)
from fastcell.cli.next_steps import after_predict, run_words, show_next
from fastcell.cli.options import check_seed, packages_of
from fastcell.cli.predict_files import FilesToPredict
from fastcell.cli.short_help import DESCRIPTIONS
from fastcell.cli.shorter_training import shorter_length
from fastcell.cli.signature import REQUIRED, folded
from fastcell.cli.slips import refused_part
from fastcell.cli.trainer_names import check_trainer_names
from fastcell.errors import ArgumentError, FastcellError
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.models.network_parts import parse_freeze
from fastcell.predictions.table import check_output
from fastcell.runs.checkpoint import AtomicCheckpointIO, load_classifier
from fastcell.runs.open_run import read_data_settings
from fastcell.runs.run_folder import CONFIG_FILE, ENVIRONMENT_FILE, find_checkpoint
from fastcell.storage.locks import hold_run_folder
from fastcell.storage.whole_files import read_json_file
from fastcell.system import library_settings
from fastcell.system.messages import LineHandler, print_line
from fastcell.system.own_parts import import_trusted
from fastcell.system.rank_errors import watch_parent
from fastcell.system.text import join_lines
from fastcell.training.best_weights import BALANCED, PLAIN, checkpoint_callback
from fastcell.training.curve_logger import CurveLogger
from fastcell.training.distillation.teacher import Teacher
from fastcell.training.evaluate import evaluate, has_labelled_cells, predict
from fastcell.training.fit import train
from fastcell.training.precision_choice import SAFE, time_precisions
from fastcell.training.preflight import check_devices, check_scored_batches, check_trainer, check_trainer_settings
from fastcell.training.progress_bar import Throughput
from fastcell.training.rank_watch import RankWatch
from fastcell.training.recipe import PRESETS, preset_path
from fastcell.training.resume import ResumePoints, check_run, check_start, plan_resumption, remove_points
from fastcell.training.run_record import RunRecord, make_run_folder
from fastcell.training.same_settings import flat_settings
from fastcell.training.start_weights import StartWeights, check_unchanged, start_from
from fastcell.training.stop_signals import told_how_it_ended
from fastcell.training.trainer import (
    check_trains,
    choose_steps_per_call,
    is_rank_zero,
    progress_callbacks,
    resolve_settings,
)

DEFAULT_SEED = 0
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
        command_line = FastcellCLI(command, DESCRIPTIONS[command], words, callbacks)
        command_line.execute()
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
    return getattr(command_line, "folder", None) if command == "fit" else None


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


class FastcellCLI(LightningCLI):
    """One command: parses its arguments and builds trainer, model and data; `execute` then runs it.

    The settings are those of the preset, then of `--config` files, then flags. Commands other than fit take the
    model, its classes and its preprocessing from a checkpoint.
    """

    def __init__(self, command: str, what: str, arguments: list[str], callbacks: Sequence[pl.Callback] = ()) -> None:
        self.command, self.callbacks = command, list(callbacks)
        parser_kwargs: dict[str, Any] = {"prog": f"fastcell {command}", "description": what}
        if command == "fit":
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
            parser_kwargs["default_config_files"] = [str(preset_path(preset))]
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
        if self.command == "fit":
            allow_auto_precision(parser)
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})
        skip = set() if self.command == "fit" else OF_THE_CHECKPOINT | OF_TRAINING
        if self.command == "fit":
            parser.add_lightning_class_args(CellModule, "model")
        parser.add_class_arguments(CellDataModule, "data", sub_configs=True, skip=skip)

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
        if self.command == "fit":
            _link_fit_arguments(parser)

    def _set_seed(self) -> None:
        seed = self.config.get("seed_everything")
        if isinstance(seed, int) and not isinstance(seed, bool):
            check_seed("--seed_everything", seed)
        super()._set_seed()

    def instantiate_classes(self) -> None:
        """Build data, model and trainer. Settings are checked before anything takes time."""
        check_trainer_names(self.config.trainer)
        if self.command == "fit":
            self._plan_fit()
            if self.finished:
                return
            try:
                super().instantiate_classes()
            except ValueError as error:  # jsonargparse wraps errors raised in the function of a link
                raise (error.__cause__ if isinstance(error.__cause__, ArgumentError) else error) from None
            return
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

    def _plan_fit(self) -> None:
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

    def _take_data_of_the_run(self, folder: Path) -> None:
        """Use the data set and the split of the run for evaluation, unless others are given."""
        if self.config.data.path is not None or not (folder / CONFIG_FILE).is_file():
            return
        settings = read_data_settings(folder)
        self.config.data.path = settings.get("path")
        if self.config.data.split_name == "default":
            self.config.data.split_name = str(settings.get("split_name", "default"))

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer, with automatic settings resolved. In fit, its root folder is the run folder."""
        settings, resumption = self.config.trainer, getattr(self, "resumption", None)
        started = self._start_weights() if self.command == "fit" else None
        teacher = self._open_teacher() if self.command == "fit" else None
        resolved = resolve_settings(
            settings, resumption and resumption.resolved.get("trainer.precision"), self._time_precisions
        )
        self.throughput, self.ranks = Throughput(), RankWatch()
        users = self.config_init.trainer.callbacks or []
        callbacks = [*(users if isinstance(users, list) else [users]), self.throughput, self.ranks]
        callbacks += [*progress_callbacks(settings, self.throughput), *self.callbacks]
        kwargs = {**resolved, "enable_progress_bar": False, **kwargs}
        self.folder: Path | None = None
        self.points: ResumePoints | None = None
        self.ckpt_path = self.config.ckpt_path if resumption is None else resumption.point
        if self.command != "fit" or settings.fast_dev_run:
            kwargs.update(logger=False, enable_checkpointing=False)
        else:
            resumed = self.config.resume
            monitor = (resumption and resumption.monitor) or self._monitor()
            if is_rank_zero():
                self.folder = Path(resumed) if resumed is not None else self._make_run_folder()
            kwargs["logger"] = self._loggers()
            every = self.config.checkpoint_every_steps, self.config.checkpoint_every_minutes
            self.points = ResumePoints(self.folder, *every, self.settings)
            record = RunRecord(self.folder, self.asked, None if resumed is None else resumption, started, teacher)
            callbacks.append(record)
            validates = has_labelled_cells(self.datamodule, "valid") and settings.limit_val_batches != 0
            callbacks += [checkpoint_callback(self.folder, validates, monitor), self.points]
        plugins = self.config_init.trainer.plugins or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        try:
            trainer = super().instantiate_trainer(**kwargs, callbacks=callbacks)
            if self.command == "fit":
                check_trainer(trainer, self.model, self.datamodule, settings)
            return trainer
        except (MisconfigurationException, ModuleNotFoundError, ValueError, TypeError) as error:
            if self.folder is not None and self.config.resume is None:
                shutil.rmtree(self.folder)
            raise ArgumentError(refused_part(str(error)) or " ".join(str(error).split())) from error

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
        """Run the command. A run that fails before its first checkpoint leaves no folder."""
        if self.command == "fit" and self.finished:
            if is_rank_zero():
                remove_points(Path(self.config.resume))  # a run that was killed after its last score still has them
                print_line(f"{self.config.resume} is finished, nothing to do.")
                show_next(("report", self.config.resume), ("explain", self.config.resume))
            return
        if self.command == "predict" and self.files is not None:
            assert self.out is not None  # required
            self.files.predict(self.out)
            show_next(*after_predict(self.out, Path(self.config.ckpt_path)))
            return
        resumed = self.command == "fit" and self.config.resume is not None
        with told_how_it_ended(
            self.trainer,
            self.ranks,
            self.points,
            self.folder,
            resumed=resumed,
            repeatable=self.command == "predict",
        ):
            if self.command == "fit":
                with hold_run_folder(self.folder) if self.folder is not None else nullcontext():
                    parts = (self.trainer, self.model, self.datamodule, self.throughput, self.folder)
                    train(*parts, self.ckpt_path, self.config.select, self.config.allow_absent)
                if self.folder is not None:
                    remove_points(self.folder)
                    show_next(("report", self.folder), ("explain", self.folder))
            elif self.command == "predict":
                assert self.out is not None  # required
                checkpoint = Path(self.config.ckpt_path)
                limits = self.config.min_confidence, self.config.accuracy
                predict(self.trainer, self.model, self.datamodule, self.throughput, self.out, checkpoint, *limits)
                if is_rank_zero():
                    show_next(*after_predict(self.out, Path(self.config.ckpt_path)))
            else:
                part = "valid" if self.command == "validate" else "test"
                evaluate(self.trainer, self.model, self.datamodule, self.throughput, part, self.out)
                run = run_words(Path(self.config.ckpt_path))
                after = ("test", *run, self.datamodule.path) if part == "valid" else ("report", *run)
                if is_rank_zero() and run:
                    show_next(after)

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


class _Described(Exception):  # noqa: N818, carries a parser out of its maker
    """Raised with the parser of a command before it parses anything."""


class _ParserAlone(FastcellCLI):
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        raise _Described


def full_parser(command: str, preset: str = PRESETS[0]) -> LightningArgumentParser:
    """Return the parser of a command with all its options.

    Args:
        command: fit, validate, test or predict.
        preset: preset whose settings are the defaults of fit.
    """
    builder = _ParserAlone.__new__(_ParserAlone)
    with suppress(_Described):
        builder.__init__(command, DESCRIPTIONS[command], [f"--preset={preset}"])  # type: ignore[misc]
    return builder.parser


def _computes_in_float32(settings: Any) -> bool:
    """Return True if the weights of the network are float32, alone or in mixed precision."""
    return str(settings.precision or "32") not in ("16", "bf16", "16-true", "bf16-true", "transformer-engine")


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
