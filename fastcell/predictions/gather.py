"""Gather predictions of all ranks: one row per cell in manifest order, independent of the number of ranks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from fastcell.models.scored_network import Prediction
from fastcell.storage.whole_files import make_scratch_folder


def counted_predictions(parts: list[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Join predictions, keeping the cells with weight above 0.

    Args:
        parts: predictions of some batches, on any device; may be empty.

    Returns:
        cell_ids, (n,) int64, and probabilities, (n, K) float32. K is 0 if `parts` is empty.
    """
    if not parts:
        return np.empty(0, np.int64), np.empty((0, 0), np.float32)
    columns = zip(*((part.probabilities, part.cell_ids, part.weight) for part in parts), strict=True)
    probabilities, ids, weight = (torch.cat(list(column)).cpu().numpy() for column in columns)
    return ids[weight > 0], probabilities[weight > 0]


class PredictionGatherer(pl.Callback):
    """Callback that keeps all predictions of a validation or test run on the device, and joins those of all ranks.

    Args:
        folder: on rank 0, a folder in which the ranks can save their parts; it must be visible to all ranks.

    Attributes:
        cell_ids: (N,) int64 in increasing order, on rank 0 after the run.
        probabilities: (N, K) float32 in the same order, on rank 0 after the run.
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
        ids, probabilities = counted_predictions(self._parts)
        self._parts = []
        if trainer.world_size > 1:
            made = str(make_scratch_folder(self.folder)) if trainer.is_global_zero else ""
            folder = Path(trainer.strategy.broadcast(made))
            np.savez(folder / f"{trainer.global_rank}.npz", ids=ids, probabilities=probabilities)
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                parts = [np.load(folder / f"{rank}.npz") for rank in range(trainer.world_size)]
                ids = np.concatenate([part["ids"] for part in parts])
                probabilities = np.concatenate(
                    [part["probabilities"] for part in parts if len(part["ids"])] or [probabilities]
                )
                shutil.rmtree(folder)
        self.cell_ids, first = np.unique(ids, return_index=True)
        self.probabilities = probabilities[first]
