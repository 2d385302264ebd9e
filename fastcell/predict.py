"""Predictions: one row per cell in manifest order, written whole or not at all, the same whatever the ranks."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch

from fastcell.data.manifest import Manifest
from fastcell.errors import DataError, invalid
from fastcell.models.classifier import Prediction

FORMATS = (".csv", ".parquet", ".fcs")
NOT_READ = "could not be read during the run"


class PredictionGatherer(pl.Callback):
    """Keeps every prediction of a validation or test run on the device and brings those of all ranks together.

    Args:
        folder: on rank 0, a folder in which the ranks may leave their parts, seen by all of them.

    Attributes:
        cell_ids: (N,) int64 in increasing order, on rank 0 after the run.
        probabilities: (N, K) float32, likewise.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cell_ids = np.empty(0, np.int64)
        self.probabilities = np.empty((0, 0), np.float32)
        self._parts: list[Prediction] = []

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self._parts.append(outputs)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self._parts.append(outputs)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._gather(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._gather(trainer)

    def _gather(self, trainer: pl.Trainer) -> None:
        ids, chances = _counted(self._parts)
        self._parts = []
        if trainer.world_size > 1:
            made = tempfile.mkdtemp(prefix=".parts-", dir=self.folder) if trainer.is_global_zero else ""
            folder = Path(trainer.strategy.broadcast(made))
            np.savez(folder / f"{trainer.global_rank}.npz", ids=ids, chances=chances)
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                parts = [np.load(folder / f"{rank}.npz") for rank in range(trainer.world_size)]
                ids = np.concatenate([part["ids"] for part in parts])
                chances = np.concatenate([part["chances"] for part in parts if len(part["ids"])] or [chances])
                shutil.rmtree(folder)
        self.cell_ids, first = np.unique(ids, return_index=True)
        self.probabilities = chances[first]


def prediction_table(
    manifest: Manifest,
    classes: list[str],
    rows: np.ndarray,
    cell_ids: np.ndarray,
    probabilities: np.ndarray,
    truth: bool = False,
    quarantined: bool = True,
    reasons: dict[int, str] | None = None,
) -> pa.Table:
    """One row per cell: key, group, class, confidence, p_<class> for each class, reason.

    `class` is the likeliest class and `confidence` its probability. A cell among `rows` without a prediction and the
    quarantined cells, which come last, have empty values and a `reason`.

    Args:
        manifest: of the data set.
        classes: K names, in the order of the probabilities.
        rows: (R,) int64 cell_ids that were asked for, any order, repeats ignored.
        cell_ids: (N,) int64, increasing, that have a prediction.
        probabilities: (N, K) float32.
        truth: also give the manifest's class, as column `true_class`.
        quarantined: also list the quarantined cells.
        reasons: why cells have no prediction, by cell_id.
    """
    wanted, known = (_marked(ids, manifest.table.num_rows) for ids in (rows, cell_ids))
    rows = np.flatnonzero(wanted)
    found = known[rows]
    chances = np.full((len(rows), len(classes)), np.nan, np.float32)
    chances[found] = probabilities[wanted[cell_ids]]
    winner = np.where(found, np.nan_to_num(chances, nan=-1.0).argmax(axis=1), 0)
    names = pa.array(classes, pa.string()).take(pa.array(winner, mask=~found))
    cells = manifest.table.select(["key", "group", "class"])
    cells = cells if len(rows) == cells.num_rows else cells.take(rows)
    columns: dict[str, Any] = {"key": cells.column("key"), "group": cells.column("group")}
    if truth:
        columns["true_class"] = cells.column("class")
    columns["class"] = names
    columns["confidence"] = pa.array(chances.max(axis=1, initial=-np.inf), pa.float32(), mask=~found)
    for index, name in enumerate(classes):
        columns[f"p_{name}"] = pa.array(chances[:, index], mask=~found)
    texts = np.full(len(rows), None, object)
    for place in np.flatnonzero(~found).tolist():
        texts[place] = (reasons or {}).get(int(rows[place]), NOT_READ)
    columns["reason"] = pa.array(texts, pa.string())
    table = pa.table(columns)
    if not quarantined:
        return table
    bad = manifest.quarantine()
    told = {"key": bad.column("key"), "group": bad.column("group"), "reason": bad.column("reason")}
    if truth:
        told["true_class"] = bad.column("class")
    empty = {field.name: pa.nulls(bad.num_rows, field.type) for field in table.schema}
    return pa.concat_tables([table, pa.table({**empty, **told}, schema=table.schema)])


def check_output(path: str | Path) -> Path:
    """`path` as a Path, if predictions can be written there; asked before a long run, not after it.

    Raises ArgumentError for another ending than `FORMATS`, DataError where there is no such folder.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        rule = f"a file name that ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise invalid("--out", rule, str(path), "For others write .parquet, and use fastcell convert")
    if not path.parent.is_dir() or path.is_dir():
        what = "is a folder" if path.is_dir() else f"cannot be made: there is no folder {path.parent}"
        raise DataError(f"--out must be a file in a folder that is there, but {path} {what}. Choose another place.")
    return path


def _marked(ids: np.ndarray, count: int) -> np.ndarray:
    """(count,) bool, True at the ids."""
    mask = np.zeros(count, bool)
    mask[ids] = True
    return mask


def _counted(parts: list[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,) int64 and probabilities (n, K) float32 of the predictions with weight above 0."""
    if not parts:
        return np.empty(0, np.int64), np.empty((0, 0), np.float32)
    chances, ids, weight = (torch.cat(list(column)).cpu().numpy() for column in zip(*parts, strict=True))
    return ids[weight > 0], chances[weight > 0]
