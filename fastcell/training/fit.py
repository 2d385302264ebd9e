"""Train a recipe in memory, or as a run with a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch

from fastcell.dataset.corrupt_cells import corrupt_cells_table
from fastcell.dataset.marks.corrected_labels import note_labels
from fastcell.dataset.schema import SPLITS, SUBSET_NAMES
from fastcell.errors import ArgumentError, invalid
from fastcell.inference.keep_statistics import keep_statistics
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.plots.basic_figures import draw_confusion, draw_curves
from fastcell.predictions.table import write_csv_or_parquet
from fastcell.runs.checkpoint import read_checkpoint
from fastcell.runs.run_folder import (
    CONFUSION_STEM,
    CORRUPT_CELLS_FILE,
    CURVE_FILE,
    CURVE_STEM,
    LAST_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    run_title,
    write_confusion,
)
from fastcell.splits.obstacles import cautions, refuse_obstacles
from fastcell.storage.whole_files import write_json
from fastcell.system.lightning_internals import detach
from fastcell.system.messages import print_line
from fastcell.system.text import printable
from fastcell.training.best_weights import BestWeights, choose_weights
from fastcell.training.class_cautions import describe_balance, describe_shift, training_cautions
from fastcell.training.evaluate import (
    STAGE_OF_PART,
    data_obstacles,
    final_subset,
    has_labelled_cells,
    part_table,
    print_corrupt_cells,
    print_on_rank_zero,
    score_part,
    used_cells,
)
from fastcell.training.precision_choice import time_precisions
from fastcell.training.progress_bar import Throughput
from fastcell.training.recipe import Recipe
from fastcell.training.trainer import build_trainer, machine_precision


class TrainedNetwork(NamedTuple):
    """A network trained in memory.

    Attributes:
        model: model with the selected weights, on the trainer's device, in evaluation mode.
        seconds: duration of the training [s].
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
    prepare: Callable[[CellModule], object] | None = None,
    **settings: Any,
) -> TrainedNetwork:
    """Train the network of a recipe in memory, without a run folder.

    Args:
        recipe: settings of model and trainer, and the selection of weights: the best ones have the lowest validation
            loss; without validation the last ones are used.
        data: batches of training and validation.
        classes: K names, in the order of the labels.
        preprocessing: preprocessing of the images that `data` returns.
        seed: seed of torch's random state, from which the initial weights are drawn.
        device: CPU or GPU.
        prepare: called with the new model before training, e.g. to take weights of another run.
        **settings: arguments of `pl.Trainer` that replace those of the recipe.
    """
    torch.manual_seed(seed)
    model = build_model(recipe, classes, preprocessing)
    if prepare is not None:
        prepare(model)
    best = BestWeights()
    callbacks: list[pl.Callback] = [best] if recipe.select == "best" else []
    settings = {**recipe.trainer, **settings}
    if settings.get("precision") == "auto":
        on_cpu = device.type == "cpu"
        settings["precision"] = time_precisions(model, recipe.batch_size).choice if on_cpu else machine_precision(True)
    trainer = build_trainer(device, callbacks=callbacks, **settings)
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
    allow_absent: bool = False,
) -> None:
    """Train, evaluate the selected weights on the test subset and complete the run folder.

    The best weights are those with the lowest validation loss; without a validation subset, the last weights are used.
    Without a test subset, the validation subset is scored and the output states this.

    Args:
        trainer: trainer with `throughput` among its callbacks.
        model: model with the classes of the data set.
        data: data with labels.
        throughput: callback that counts cells.
        folder: the run folder on rank 0; None on other ranks and in a trial run (fast_dev_run), which writes nothing.
        ckpt_path: checkpoint to resume from.
        select: weights to evaluate, ``best`` or ``last``.
        allow_absent: train even if the scores cannot be meaningful; each score is then printed with a caution.

    Raises:
        ArgumentError: no step was trained, the data differ from those of the checkpoint, class and recording cannot be
            told apart, or a subset lacks a class (see `fastcell.splits.obstacles`).
    """
    if not allow_absent:
        refuse_obstacles(data_obstacles(data), f"split {data.hparams['split_name']!r} of {data.path}")
    content: dict[str, Any] = {"global_step": 0} if ckpt_path is None else read_checkpoint(ckpt_path)
    before = int(content["global_step"])
    if "CellDataModule" in content:  # checkpoints of format 1 lack it at the end of a run
        data.check_state(content["CellDataModule"])
    print_on_rank_zero(trainer, describe_training(trainer, model, data, folder))
    fit_model(trainer, model, data, ckpt_path)
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    folder = Path(trainer.strategy.broadcast(str(folder)))
    if ckpt_path is None or Path(ckpt_path).parent != folder:
        _check_trained(trainer, before, ckpt_path)
    trainer.save_checkpoint(folder / LAST_FILE)
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") if has_labelled_cells(data, "valid") else ""
    is_best = choose_weights(model, select, read_checkpoint(best)["state_dict"] if best and select == "best" else None)
    if select == "last":
        print_on_rank_zero(trainer, "Evaluating the last weights, not those with the lowest validation loss.")
    elif not is_best:
        print_on_rank_zero(trainer, "There is no validation subset: evaluating the last weights, not the best ones.")
    trained = cautions_of_training(trainer, data, select)
    used = Path(best).name if is_best else LAST_FILE
    if trainer.is_global_zero:
        line, blind = keep_statistics(trainer, model, data, folder / used)
        print_line(line)
        trained = [*trained, *blind]
    _complete_run_folder(trainer, model, data, throughput, folder, used, trained)


def _check_trained(trainer: pl.Trainer, before: int, ckpt_path: str | None) -> None:
    """Check that a new run has taken at least one step after the `before` steps of its checkpoint.

    Raises:
        ArgumentError: it has taken none.
    """
    if trainer.global_step > before:
        return
    where = "" if ckpt_path is None else f" {ckpt_path} has {before:,} steps already."
    raise ArgumentError(
        f"nothing was trained, so there is nothing to score.{where} Give more epochs or steps (--trainer.max_epochs, "
        "--trainer.max_steps, --trainer.max_time, --trainer.limit_train_batches)."
    )


def fit_model(
    trainer: pl.Trainer, model: CellModule, data: pl.LightningDataModule, ckpt_path: str | None = None
) -> None:
    """Run the trainer to its end, from a checkpoint if one is given. The model ends with the last weights.

    Raises:
        ArgumentError: the validation interval is longer than an epoch, and batches are not counted over epochs.
    """
    try:
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    except ValueError as error:
        if "`val_check_interval`" not in str(error):
            raise
        rule = f"at most {trainer.num_training_batches:,.0f}, the batches of an epoch"
        hint = "Or add --trainer.check_val_every_n_epoch=null, which counts batches over epochs"
        got = trainer.val_check_interval  # type: ignore[attr-defined]
        raise invalid("--trainer.val_check_interval", rule, got, hint) from error


def _complete_run_folder(
    trainer: pl.Trainer,
    model: CellModule,
    data: CellDataModule,
    throughput: Throughput,
    folder: Path,
    used: str,
    trained: list[str],
) -> None:
    """Score the weights of checkpoint `used`, and write the files listed in `fastcell.runs.run_folder.RUN_FILES`."""
    part = final_subset(data)
    title = run_title(folder, data.info.name, model.network_name)
    values: dict[str, Any] = {"checkpoint": used, "epochs": trainer.current_epoch, "steps": trainer.global_step}
    values["cautions"] = [*cautions(data_obstacles(data)), *trained]
    if part is None:
        print_on_rank_zero(trainer, "There is neither a test nor a validation subset: nothing to evaluate.")
    else:
        gathered, summary, values["cautions"] = score_part(trainer, model, data, part, folder, trained)
        if trainer.is_global_zero:
            values[part] = summary
            write_csv_or_parquet(folder / PREDICTIONS_FILE, part_table(model, data, part, gathered, truth=True))
            confusion = np.array(summary["confusion"], np.int64)
            write_confusion(folder / f"{CONFUSION_STEM}.csv", confusion, model.classes)
            about = f"{SUBSET_NAMES[part]} subset of {title}"
            draw_confusion(confusion, model.classes, folder / CONFUSION_STEM, about=about)
    reasons = data.gather_corrupt_cells()
    if trainer.is_global_zero:
        values["num_lost"] = len(reasons)
        if reasons:
            write_csv_or_parquet(folder / CORRUPT_CELLS_FILE, corrupt_cells_table(data.manifest, reasons))
        values["cells_per_s"] = {stage: round(throughput.rate(stage), 1) for stage in throughput.cells}
        values["seconds"] = {stage: round(seconds, 3) for stage, seconds in throughput.seconds.items()}
        values["train_waited_s"] = round(throughput.waited_s, 3)
        write_json(folder / METRICS_FILE, values)
        draw_curves(folder / CURVE_FILE, folder / CURVE_STEM, title)
        evaluation = f", evaluation {throughput.rate(STAGE_OF_PART[part]):,.0f} cells/s" if part else ""
        print_line(f"\ntraining {throughput.rate('train'):,.0f} cells/s{evaluation}")
        print_corrupt_cells(trainer, data, reasons)
        print_line(f"run folder {printable(folder)}")


def cautions_of_training(trainer: pl.Trainer, data: CellDataModule, select: str) -> list[str]:
    """Return the cautions of `fastcell.training.class_cautions.training_cautions` for the cells that a run uses."""
    subsets, labels = used_cells(data), data.manifest.class_codes
    subsets = np.where(labels >= 0, subsets, np.int8(-1))
    train, valid = (np.bincount(labels[subsets == number], minlength=data.num_classes) for number in (0, 1))
    validates = trainer.limit_val_batches != 0  # type: ignore[attr-defined]
    return training_cautions(data.info.classes, train, valid if validates else None, select)


def describe_training(trainer: pl.Trainer, model: CellModule, data: CellDataModule, folder: Path | None) -> str:
    """Return lines about a run: its title, its data, its model, and repeated classes if there are any.

    Without a run folder there is no title.
    """
    codes = data.manifest.split_codes(data.hparams["split_name"])
    cells = ", ".join(f"{part} {np.count_nonzero(codes == number):,}" for number, part in enumerate(SPLITS))
    kind = "synthetic cells" if data.info.synthetic else "cells"
    weights = sum(parameter.numel() for parameter in model.network.parameters())
    size = model.preprocessing["image_size"]
    together = model.hparams["steps_per_call"]
    batch = f"batch {data.batch_size}" + (f", {together} steps a call" if together > 1 else "")
    train = data.view("train")
    balanced = None if train is None else describe_balance(train, data.hparams["balance"])
    strength = model.hparams["decision_shift"]
    shifted = None if train is None else describe_shift(data.classes, train.cell_counts(), strength)
    by_hand = note_labels(data.manifest.marked)
    title = "" if folder is None else f"{printable(run_title(folder, data.info.name, model.network_name))}\n"
    return (
        f"{title}{printable(data.path)}: {kind}, {len(data.classes)} class{'es' * (len(data.classes) != 1)}; {cells}\n"
        f"{model.network_name}, {weights:,} weights, {size} x {size} pixels; {batch}, "
        f"{trainer.precision} on {trainer.world_size} x {trainer.strategy.root_device.type}, seed {data.seed}"
        + "".join(f"\n{printable(line)}" for line in (balanced, shifted) if line is not None)
        + (f"\n{by_hand}" if by_hand else "")
    )
