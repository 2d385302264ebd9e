"""Save the predictions of Lightning's processes in parts (`fastcell.predictions.saved_parts`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.models.scored_network import Prediction
from fastcell.predictions.gather import counted_predictions
from fastcell.predictions.saved_parts import PartStore
from fastcell.predictions.unlike_scores import BatchScorer

HAND_OVER_CELLS = 1 << 17
"""Number of cells whose predictions go from the device to a growing table in one transfer, for which the host waits."""


class PredictionParts(pl.Callback):
    """Callback that saves the predictions of each rank about every 30 s.

    Args:
        folder: `Staging.saved_dir` on rank 0; None on the other ranks.
        corrupt_cells: corrupt cells found by the reader of this rank.
        scorer: object that scores cells unlike those of training; None for no scores.

    Attributes:
        store: the parts.
    """

    def __init__(self, folder: Path | None, corrupt_cells: CorruptCells, scorer: BatchScorer | None = None) -> None:
        self.folder, self.store, self.scorer = folder, PartStore(corrupt_cells), scorer
        self._waiting: list[Prediction] = []  # on the device, so that a step does not wait for it
        self._num_waiting = 0

    @property
    def reasons(self) -> dict[int, str]:
        """Reason for each corrupt cell, by cell_id, on rank 0 after the run."""
        return self.store.reasons

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Pass the finished cells to the data module, so that their chunks are not predicted again."""
        found = (
            (Path(), np.empty(0, np.int64)) if self.folder is None else (self.folder, self.store.take_over(self.folder))
        )
        self.folder, done = trainer.strategy.broadcast(found)
        assert self.folder is not None
        self.store.begin(self.folder, trainer.global_rank)
        trainer.datamodule.skip_predicted(done)  # type: ignore[attr-defined]

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self.folder is not None
        self.store.begin(self.folder, trainer.global_rank)

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if self.scorer is not None:
            self.scorer.add(batch.images, outputs.features)
        self._waiting.append(outputs._replace(features=None))
        self._num_waiting += len(outputs.cell_ids)
        if trainer.received_sigterm:
            raise SIGTERMException
        if self.store.growing is not None and self._num_waiting >= HAND_OVER_CELLS:
            self._hand_over()
        if self.store.is_due:
            self._save()

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save()
        trainer.strategy.barrier()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException | KeyboardInterrupt):
            self._save()

    def _save(self) -> None:
        self._hand_over()
        self.store.save()

    def _hand_over(self) -> None:
        """Move the predictions from the device to the store."""
        if self._waiting:
            unlike = None
            if self.scorer is not None:
                counts = torch.cat([part.weight for part in self._waiting]).cpu().numpy() > 0
                found = self.scorer.take()
                unlike = UnlikeScores(found.scores[counts], found.off[counts])
            self.store.add(*counted_predictions(self._waiting), unlike)
            self._waiting, self._num_waiting = [], 0
