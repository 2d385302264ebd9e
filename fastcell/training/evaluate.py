"""What the commands do once trainer, model and data are built: train and evaluate, evaluate, predict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from fastcell.dataset.corrupt_cells import describe_losses, losses_table
from fastcell.dataset.schema import SUBSET_NAMES
from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import CellModule
from fastcell.plots.basic_figures import draw_confusion, draw_curves
from fastcell.predictions.convert import write_predictions
from fastcell.predictions.gather import PredictionGatherer
from fastcell.predictions.saved_parts import PredictionParts, saved_parts
from fastcell.predictions.table import prediction_table, write_csv_or_parquet
from fastcell.runs.checkpoint import read_checkpoint
from fastcell.runs.open_run import check_classes
from fastcell.runs.run_folder import write_confusion
from fastcell.stats.scores import format_scores, summarize
from fastcell.storage.whole_files import write_json
from fastcell.training.progress_bar import Throughput

RUNS = {"valid": "validate", "test": "test"}


def train(
    trainer: pl.Trainer,
    model: CellModule,
    data: CellDataModule,
    throughput: Throughput,
    folder: Path | None,
    ckpt_path: str | None = None,
    select: str = "best",
) -> None:
    """Trains, evaluates the chosen weights on the test part and completes the run folder.

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
    _say(trainer, describe(trainer, model, data))
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    folder = Path(trainer.strategy.broadcast(str(folder)))
    trainer.save_checkpoint(folder / "last.ckpt")
    used = "last.ckpt"
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if select == "last":
        _say(trainer, "The last weights are evaluated, not those of the least validation loss.")
    elif has_part(data, "valid") and best:
        used = Path(best).name
        model.load_state_dict(read_checkpoint(best)["state_dict"])
    else:
        _say(trainer, "No validation part: the last weights are evaluated, not the best.")
    part = next((name for name in ("test", "valid") if has_part(data, name)), None)
    values: dict[str, Any] = {"checkpoint": used, "epochs": trainer.current_epoch, "steps": trainer.global_step}
    if part is None:
        _say(trainer, "No test part and no validation part: nothing to evaluate.")
    else:
        gathered, summary = score_part(trainer, model, data, part, folder)
        if trainer.is_global_zero:
            values[part] = summary
            write_csv_or_parquet(folder / "predictions.parquet", _table(model, data, part, gathered, truth=True))
            confusion = np.array(summary["confusion"], np.int64)
            write_confusion(folder / "confusion.csv", confusion, model.classes)
            about = f"{SUBSET_NAMES[part]} part of {data.manifest.info.name}"
            draw_confusion(confusion, model.classes, folder / "confusion", about=about)
    reasons = gather_losses(trainer, data)
    if trainer.is_global_zero:
        values["num_lost"] = len(reasons)
        if reasons:
            write_csv_or_parquet(folder / "losses.csv", losses_table(data.manifest, reasons))
        values["cells_per_s"] = {stage: round(throughput.rate(stage), 1) for stage in throughput.cells}
        values["seconds"] = {stage: round(seconds, 3) for stage, seconds in throughput.seconds.items()}
        values["train_waited_s"] = round(throughput.waited_s, 3)
        write_json(folder / "metrics.json", values)
        draw_curves(folder / "metrics.csv", folder / "curves", data.manifest.info.name)
        print(f"\ntraining {throughput.rate('train'):,.0f} cells/s", end="")
        print(f", evaluation {throughput.rate(RUNS[part]):,.0f} cells/s" if part else "")
        _say_losses(trainer, data, reasons)
        print(f"run folder {folder}", flush=True)


def evaluate(
    trainer: pl.Trainer,
    model: CellModule,
    data: CellDataModule,
    throughput: Throughput,
    part: str,
    out: Path | None,
) -> None:
    """Scores the `part` (valid or test) of a data set, prints the table and writes the predictions to `out`.

    Raises DataError for a class that the model does not know, ArgumentError where the part has no labelled cell.
    """
    check_classes(model, data)
    folder = out.parent if out else Path(trainer.default_root_dir)
    gathered, _ = score_part(trainer, model, data, part, folder)
    reasons = gather_losses(trainer, data)
    if trainer.is_global_zero:
        _say_losses(trainer, data, reasons)
        print(f"{throughput.rate(RUNS[part]):,.0f} cells/s")
        if out is not None:
            table = _table(model, data, part, gathered, truth=True)
            lines = write_predictions(out, table, model.classes, data.manifest)
            print("\n".join([*lines, f"predictions {out}"]), flush=True)


def predict(
    trainer: pl.Trainer,
    model: CellModule,
    data: CellDataModule,
    throughput: Throughput,
    out: Path,
    checkpoint: Path,
) -> None:
    """Classifies every cell of the data set and writes the table; prints how many of each class.

    What an interrupted run of the same job has done is taken over.

    Args:
        trainer: with the `throughput` among its callbacks.
        model: from the `checkpoint`.
        data: with the model's preprocessing.
        throughput: counts cells.
        out: file to be written.
        checkpoint: file that the model came from.

    Raises:
        BusyError: another run writes the same file.
    """
    settings = {
        "classes": model.classes,
        "tta": model.hparams["tta"],
        "chunk": data.eval_batch_size,
        "predict_split": data.predict_split,
        "precision": str(trainer.precision),
        "device": trainer.strategy.root_device.type,
    }
    with ExitStack() as stack:
        stage = None
        if trainer.is_global_zero:
            stage = stack.enter_context(
                saved_parts(out, data.manifest, checkpoint, settings, lambda line: _say(trainer, line))
            )
        gatherer = PredictionParts(None if stage is None else stage.saved_dir, data.losses)
        with attached(trainer, gatherer):
            trainer.predict(model, datamodule=data, return_predictions=False)
        if trainer.is_global_zero:
            table = _table(model, data, "predict", gatherer, reasons=gatherer.reasons)
            lines = write_predictions(out, table, model.classes, data.manifest)
    if trainer.is_global_zero:
        _say_losses(trainer, data, gatherer.reasons)
        for line in lines:
            print(line)
        counts = np.bincount(gatherer.probabilities.argmax(axis=1), minlength=len(model.classes))
        print("  ".join(f"{name} {count:,}" for name, count in zip(model.classes, counts, strict=True)))
        print(f"{table.num_rows:,} rows, {throughput.rate('predict'):,.0f} cells/s, {out}", flush=True)


def score_part(
    trainer: pl.Trainer, model: CellModule, data: CellDataModule, part: str, folder: Path
) -> tuple[PredictionGatherer, dict[str, Any]]:
    """Runs the model over a part and prints its scores on rank 0; the summary is empty on the others."""
    gatherer = PredictionGatherer(folder)
    with attached(trainer, gatherer):
        run = trainer.test if part == "test" else trainer.validate
        run(model, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return gatherer, {}
    names = data.manifest.column("class")[gatherer.cell_ids]
    labels = np.array([model.classes.index(name) for name in names], np.int64)
    groups = data.manifest.groups
    summary = summarize(
        labels,
        gatherer.probabilities.argmax(axis=1),
        model.classes,
        None if groups is None else groups[gatherer.cell_ids],
    )
    print(f"\n{part} part, {len(labels):,} cells\n\n{format_scores(summary)}")
    print(f"mean loss {float(trainer.callback_metrics[f'{part}_loss']):.7f}", flush=True)
    return gatherer, summary


@contextmanager
def attached(trainer: pl.Trainer, callback: pl.Callback) -> Iterator[None]:
    """Has `trainer` call `callback` inside the block."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(callback)
    try:
        yield
    finally:
        callbacks.remove(callback)


def describe(trainer: pl.Trainer, model: CellModule, data: CellDataModule) -> str:
    """What is trained on what, in two lines."""
    sides = data.manifest.split(data.hparams["split_name"])
    cells = ", ".join(f"{part} {np.count_nonzero(sides == part):,}" for part in ("train", "valid", "test"))
    kind = "synthetic cells" if data.info.synthetic else "cells"
    weights = sum(parameter.numel() for parameter in model.network.parameters())
    size = model.preprocessing["image_size"]
    return (
        f"{data.path}: {kind}, {len(data.classes)} class{'es' * (len(data.classes) != 1)}; {cells}\n"
        f"{model.hparams['network']}, {weights:,} weights, {size} x {size} pixels; batch {data.batch_size}, "
        f"{trainer.precision} on {trainer.world_size} x {trainer.strategy.root_device.type}, seed {data.seed}"
    )


def has_part(data: CellDataModule, part: str) -> bool:
    """Whether the data's split puts labelled cells into `part` (valid or test)."""
    sides = data.manifest.split(data.hparams["split_name"])
    return bool(((sides == part) & (data.manifest.labels >= 0)).any())


def _table(
    model: CellModule,
    data: CellDataModule,
    part: str,
    gathered: PredictionGatherer | PredictionParts,
    truth: bool = False,
    reasons: dict[int, str] | None = None,
) -> Any:
    view = data.view(part)
    assert view is not None
    return prediction_table(
        data.manifest,
        model.classes,
        view.rows,
        gathered.cell_ids,
        gathered.probabilities,
        truth=truth,
        quarantined=part == "predict",
        reasons=data.losses.reasons if reasons is None else reasons,
    )


def gather_losses(trainer: pl.Trainer, data: CellDataModule) -> dict[int, str]:
    """Why cells were lost, by cell_id, over all ranks; to be called on each."""
    if trainer.world_size == 1:
        return data.losses.reasons
    found: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(found, data.losses.reasons)
    return {cell_id: reason for part in found for cell_id, reason in part.items()}


def _say_losses(trainer: pl.Trainer, data: CellDataModule, reasons: dict[int, str]) -> None:
    if reasons:
        _say(trainer, describe_losses(losses_table(data.manifest, reasons)))


def _say(trainer: pl.Trainer, text: str) -> None:
    if trainer.is_global_zero:
        print(text, flush=True)
