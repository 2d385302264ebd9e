"""Cells per second of a run, and its progress without a terminal: one line per epoch."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from fastcell.loading.batch import Batch, PlannedSteps
from fastcell.models.lightning_module import CellModule
from fastcell.system.messages import print_line

LINE_EVERY_S = 1.0
_LOADERS = {
    "train": "train_dataloader",
    "validate": "val_dataloaders",
    "test": "test_dataloaders",
    "predict": "predict_dataloaders",
}
"""Attributes of the trainer that hold the loader of a stage."""


class Throughput(pl.Callback):
    """Count the cells processed by the model, and the time of each pass from its first batch to its end.

    Cells are counted on arrival, over all ranks and without padding. Corrupt cells count, because only the device knows
    them. Batches of a loader that does not know its cells count with their padding.

    Attributes:
        cells: number of cells by stage (train, validate, test, predict).
        seconds: wall time by stage, loading included [s].
        waited_s: wall time of training between the end of a batch, or the start of the epoch, and the next batch [s].
            During this time the host waits for cells or runs Lightning's loop.
    """

    def __init__(self) -> None:
        self.cells: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.waited_s = 0.0
        self._since: dict[str, float] = {}

    def rate(self, stage: str) -> float:
        """Return the cells per second of a stage over the whole run; 0 before the first batch."""
        seconds = self.seconds.get(stage, 0.0)
        return self.cells.get(stage, 0) / seconds if seconds > 0 else 0.0

    def _start(self, stage: str) -> None:
        self._since[stage] = time.perf_counter()

    def _count(self, trainer: pl.Trainer, stage: str, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since.get(stage, now)
        self._since[stage] = now
        known = getattr(getattr(trainer, _LOADERS[stage], None), "num_cells", None)
        cells = None if known is None else known(batch_idx)
        if cells is None:
            cells = _size(batch) * trainer.world_size
        self.cells[stage] = self.cells.get(stage, 0) + cells

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start("train")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.waited_s += now - self._since.get("train", now)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start("validate")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start("train")  # the validation pass is not training time

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start("test")

    def on_predict_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start("predict")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._count(trainer, "train", batch, batch_idx)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._count(trainer, "validate", batch, batch_idx)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._count(trainer, "test", batch, batch_idx)

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._count(trainer, "predict", batch, batch_idx)


def _size(batch: Batch | tuple[Batch, ...] | PlannedSteps) -> int:
    """Return the number of cells in an item of a loader, with its padding."""
    if isinstance(batch, PlannedSteps):
        return batch.cells.numel()
    return sum(len(one.images) for one in ((batch,) if isinstance(batch, Batch) else batch))


class EpochLines(pl.Callback):
    """Print the latest loss and accuracy once per epoch (at most one line per second), for logs and pipes."""

    def __init__(self, throughput: Throughput) -> None:
        self.throughput = throughput
        self._last = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.monotonic()
        if trainer.is_global_zero and (
            now - self._last >= LINE_EVERY_S or trainer.current_epoch + 1 == trainer.max_epochs
        ):
            self._last = now
            self._print(trainer, pl_module)

    def _print(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = "  ".join(f"{name} {value}" for name, value in readings(trainer, pl_module).items())
        epochs = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        place = f"epoch {trainer.current_epoch + 1}{epochs}  step {trainer.global_step}"
        print_line(f"{place}  {values}  {self.throughput.rate('train'):,.0f} cells/s")


def readings(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, str]:
    """Return the latest loss and accuracy of training and validation as short texts."""
    train = pl_module.last_scores if isinstance(pl_module, CellModule) else {}
    valid = {name: trainer.callback_metrics.get(f"valid_{name}") for name in ("loss", "accuracy")}
    texts = {name: f"{value:.3f}" for name, value in train.items()}
    texts.update({f"valid {name}": f"{float(value):.3f}" for name, value in valid.items() if value is not None})
    return texts
