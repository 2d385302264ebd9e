"""Evaluate and score a trained network on a subset of the split, or on every cell of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch

from fastcell.dataset.corrupt_cells import corrupt_cells_table, describe_corrupt_cells
from fastcell.dataset.schema import SPLITS
from fastcell.errors import DIVERGED_HINT, DivergedError
from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import CellModule
from fastcell.predictions.answer_limits import AnswerLimits, read_answer_limits
from fastcell.predictions.convert import write_predictions
from fastcell.predictions.gather import PredictionGatherer
from fastcell.predictions.growing_table import finish_table, grow_table
from fastcell.predictions.parts_of_ranks import PredictionParts
from fastcell.predictions.saved_parts import saved_parts
from fastcell.predictions.table import prediction_table
from fastcell.predictions.unlike_scores import BatchScorer
from fastcell.runs.open_run import check_classes
from fastcell.splits.obstacles import Obstacle, cautions, find_obstacles, origins_of, usable_cells
from fastcell.stats.scores import format_scores, summarize
from fastcell.system.lightning_internals import attached
from fastcell.system.messages import print_line
from fastcell.system.text import join_lines, printable
from fastcell.training.class_cautions import call_cautions
from fastcell.training.progress_bar import Throughput

STAGE_OF_PART = {"valid": "validate", "test": "test"}


def evaluate(
    trainer: pl.Trainer,
    model: CellModule,
    data: CellDataModule,
    throughput: Throughput,
    part: str,
    out: Path | None,
) -> None:
    """Score the subset `part` (valid or test) of a data set, print the table and write the predictions to `out`.

    Raises:
        DataError: the model does not know a class of the data set.
        ArgumentError: the subset has no labelled cell.
    """
    check_classes(model, data)
    folder = out.parent if out else Path(trainer.default_root_dir)
    gathered = score_part(trainer, model, data, part, folder).gathered
    reasons = data.gather_corrupt_cells()
    if trainer.is_global_zero:
        print_corrupt_cells(trainer, data, reasons)
        print_line(f"{throughput.rate(STAGE_OF_PART[part]):,.0f} cells/s")
        if out is not None:
            table = part_table(model, data, part, gathered, truth=True)
            lines = write_predictions(out, table, model.classes, data.manifest)
            print_line(join_lines([*lines, f"predictions {out}"]))


def predict(
    trainer: pl.Trainer,
    model: CellModule,
    data: CellDataModule,
    throughput: Throughput,
    out: Path,
    checkpoint: Path,
    min_confidence: float | None = None,
    accuracy: float | None = None,
) -> None:
    """Classify every cell of the data set, write the table and print the number of cells of each class.

    Probabilities are calibrated with the temperature of the checkpoint, and cells unlike those of training are marked.
    If the checkpoint has no temperature or statistics, this step is omitted and a message says so. Results of an
    interrupted run of the same job are reused.

    Args:
        trainer: trainer with `throughput` among its callbacks.
        model: model from `checkpoint`.
        data: data with the model's preprocessing.
        throughput: callback that counts cells.
        out: output file.
        checkpoint: file that the model was loaded from.
        min_confidence: minimum confidence of an answer, 0 to 1; cells with less are unsure. None for no limit.
        accuracy: accuracy of the answers on validation cells, from which the minimum confidence follows.

    Raises:
        ArgumentError: both limits are given, one is out of its range, or the accuracy cannot be reached.
        DataError: the statistics in the checkpoint are damaged.
        BusyError: another run is writing the same file.
    """
    limits = read_answer_limits(checkpoint, model.classes, min_confidence, accuracy)
    for line in limits.lines:
        print_on_rank_zero(trainer, line)
    scorer = _scorer(trainer, model, data, limits)
    settings = {
        "classes": model.classes,
        "tta": model.hparams["tta"],
        "chunk": data.eval_batch_size,
        "predict_split": data.predict_split,
        "precision": str(trainer.precision),
        "device": trainer.strategy.root_device.type,
        "unlike": scorer is not None,
    }
    with ExitStack() as stack:
        stage = None
        if trainer.is_global_zero:
            stage = stack.enter_context(
                saved_parts(out, data.manifest, checkpoint, settings, lambda line: print_on_rank_zero(trainer, line))
            )
        gatherer = PredictionParts(None if stage is None else stage.saved_dir, data.corrupt_cells, scorer)
        rows = _rows_to_predict(data)
        if trainer.world_size == 1:
            gatherer.store.growing = grow_table(
                out, data.manifest, model.classes, rows, limits, lambda: data.corrupt_cells.reasons
            )
            stack.callback(gatherer.store.stop_growing)
        with attached(trainer, gatherer):
            trainer.predict(model, datamodule=data, return_predictions=False)
        if trainer.is_global_zero:
            summary, lines = finish_table(gatherer.store, out, data.manifest, model.classes, rows, limits)
    if trainer.is_global_zero:
        print_corrupt_cells(trainer, data, gatherer.reasons)
        print_line(join_lines(lines))
        print_line(join_lines(summary.lines()))
        if summary.num_not_finite:
            text = "cells without a class, because the network gives them no finite probability"
            print_line(f"{text}: {summary.num_not_finite:,}")
        print_line(f"{summary.num_rows:,} rows, {throughput.rate('predict'):,.0f} cells/s, {printable(out)}")


def _rows_to_predict(data: CellDataModule) -> np.ndarray:
    view = data.view("predict")
    assert view is not None
    return view.rows


def _scorer(trainer: pl.Trainer, model: CellModule, data: CellDataModule, limits: AnswerLimits) -> BatchScorer | None:
    """Return the object that scores cells unlike those of training; None, with a message, if images are not float32."""
    if limits.known is None:
        return None
    settings = data.loader_settings(trainer)
    if settings.dtype != torch.float32:
        print_on_rank_zero(
            trainer,
            f"cells unlike those of training are not looked for: that needs float32 images, got {settings.dtype} "
            "(--data.dtype float32, with a mixed or 32-bit precision)",
        )
        return None
    return BatchScorer(limits.known, settings.threads)


class ScoredPart(NamedTuple):
    """Scores of a subset; the last two are empty on ranks other than 0.

    Attributes:
        gathered: predictions of its cells.
        summary: scores with intervals.
        cautions: sentences about classes and recordings that limit the meaning of the scores.
    """

    gathered: PredictionGatherer
    summary: dict[str, Any]
    cautions: list[str]


def score_part(
    trainer: pl.Trainer,
    model: CellModule,
    data: CellDataModule,
    part: str,
    folder: Path,
    trained: Sequence[str] = (),
) -> ScoredPart:
    """Run the model over a subset and print its scores on rank 0, with cautions above and below them.

    Args:
        trainer: trainer of the run.
        model: model with the weights to score.
        data: data with the subset.
        part: ``valid`` or ``test``.
        folder: folder for temporary files.
        trained: cautions about the training, from `fastcell.training.class_cautions.training_cautions`.
    """
    gatherer = PredictionGatherer(folder)
    with attached(trainer, gatherer):
        run = trainer.test if part == "test" else trainer.validate
        run(model, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return ScoredPart(gatherer, {}, [])
    finite = np.asarray(np.isfinite(gatherer.probabilities).all(axis=1))
    if len(finite) and not finite.any():
        raise DivergedError(
            f"the network gives no finite probability on the {part} subset: training has diverged. {DIVERGED_HINT}."
        )
    cell_ids = gatherer.cell_ids[finite]
    numbers = [model.classes.index(name) if name in model.classes else -1 for name in data.manifest.info.classes]
    labels = np.array([*numbers, -1], np.int64)[data.manifest.class_codes[cell_ids]]
    groups = data.manifest.groups
    summary = summarize(
        labels,
        gatherer.probabilities[finite].argmax(axis=1),
        model.classes,
        None if groups is None else groups[cell_ids],
    )
    by_class: Any = summary["classes"]
    named = summary | {"classes": {printable(name): scores for name, scores in by_class.items()}}
    said = [*cautions(data_obstacles(data)), *trained, *call_cautions(model.classes, summary["confusion"], part)]
    above = "".join(f"{printable(line)}\n" for line in said)
    print_line(f"\n{above}{part} subset, {len(labels):,} cell{'s' * (len(labels) != 1)}\n\n{format_scores(named)}")
    if not finite.all():
        num = int((~finite).sum())
        print_line(f"{num:,} more cells are not scored, because the network gives them no finite probability")
    print_line(f"mean loss {float(trainer.callback_metrics[f'{part}_loss']):.7f}")
    if model.own_metrics is not None:
        found = {name: float(trainer.callback_metrics[f"{part}_{name}"]) for name in model.own_metrics.names}
        summary["metrics"] = found
        print_line("\n".join(f"{name} {value:.4f}" for name, value in found.items()))
    if said:
        print_line(above.rstrip("\n"))
    return ScoredPart(gatherer, summary, said)


def num_labelled(data: CellDataModule, part: str | None) -> int:
    """Return the number of labelled cells in a subset of the data set's split; 0 if `part` is None."""
    if part is None:
        return 0
    codes = data.manifest.split_codes(data.hparams["split_name"])
    return int(np.count_nonzero((codes == _number_of(part)) & (data.manifest.class_codes >= 0)))


def data_obstacles(data: CellDataModule) -> list[Obstacle]:
    """Return the obstacles to meaningful scores in the split of the data; for training only the subsample counts."""
    manifest = data.manifest
    return find_obstacles(manifest.class_codes, manifest.info.classes, [used_cells(data)], origins_of(manifest))


def used_cells(data: CellDataModule) -> np.ndarray:
    """Return the subset in which each cell of the manifest is used, (N,) int8, index into `SPLITS`, -1 for none."""
    manifest, number = data.manifest, _number_of("train")
    codes = manifest.split_codes(data.hparams["split_name"])
    codes = np.where(usable_cells(manifest, data.hparams["quality"]), codes, np.int8(-1))
    if data.hparams.get("subsample") is not None and (codes == number).any():
        train = data.view("train")
        assert train is not None
        codes[codes == number] = -1
        for rows in train.parts():
            codes[rows] = number
    return codes


def _number_of(part: str) -> int:
    numbers: dict[str, int] = {name: number for number, name in enumerate(SPLITS)}
    return numbers[part]


def has_labelled_cells(data: CellDataModule, part: str) -> bool:
    """Return whether the split of the data set has labelled cells in `part` (valid or test)."""
    return num_labelled(data, part) > 0


def final_subset(data: CellDataModule) -> str | None:
    """Return the subset on which a run is scored after training: test, else valid; None without labelled cells."""
    return next((name for name in ("test", "valid") if has_labelled_cells(data, name)), None)


def part_table(
    model: CellModule, data: CellDataModule, part: str, gathered: PredictionGatherer, truth: bool = False
) -> Any:
    """Return the predictions of a subset as a table; `truth` adds the true class."""
    view = data.view(part)
    assert view is not None
    return prediction_table(
        data.manifest,
        model.classes,
        view.rows,
        gathered.cell_ids,
        gathered.probabilities,
        truth=truth,
        quarantined=False,
        reasons=data.corrupt_cells.reasons,
    )


def print_corrupt_cells(trainer: pl.Trainer, data: CellDataModule, reasons: dict[int, str]) -> None:
    """Print the number of corrupt cells and the reasons on rank 0, if there are any."""
    if reasons:
        print_on_rank_zero(trainer, describe_corrupt_cells(corrupt_cells_table(data.manifest, reasons)))


def print_on_rank_zero(trainer: pl.Trainer, text: str) -> None:
    """Print a text on rank 0 only."""
    if trainer.is_global_zero:
        print_line(text)
