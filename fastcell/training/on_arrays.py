"""Train on cells in memory, and classify them, as ``fastcell fit`` does but without data set or run folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from fastcell.dataset.class_balance import logit_shift, oversample, resolve_balance
from fastcell.inference.backend_torch import TorchBackend
from fastcell.inference.probabilities import class_probabilities
from fastcell.loading.array_loader import PoolLoader, make_pool
from fastcell.loading.order import BankOrder, StoredOrder
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.settings import LoaderSettings
from fastcell.models.lightning_module import CellModule
from fastcell.ops.constants import GPU_IMAGE_SIZES
from fastcell.system import library_settings, resources
from fastcell.system.messages import print_remark
from fastcell.system.progress_line import Progress
from fastcell.training.fit import train_recipe
from fastcell.training.recipe import Recipe


def train_on_cells(
    recipe: Recipe,
    cells: Sequence[np.ndarray],
    labels: np.ndarray,
    weights: np.ndarray,
    classes: list[str],
    seed: int,
    threads: int = 1,
    window: tuple[float, float] | None = None,
    verbose: bool = False,
) -> CellModule:
    """Train a classifier, on a GPU if available, and keep the last weights: no cells are held out to select the best.

    Args:
        recipe: model, data and length of the training.
        cells: N arrays (H, W), uint8, or uint16 with 65535 for grey level 255.
        labels: (N,) int, indices into `classes`.
        weights: (N,) weight of each cell in the loss.
        classes: K names.
        seed: seed of weights, order and augmentation; torch's own random state is restored afterwards.
        threads: threads of the preprocessing.
        window: grey levels from which uint16 cells were mapped, saved with the preprocessing.
        verbose: print steps, remaining time, and the last loss and accuracy to stderr.

    Returns:
        The Lightning module, on the CPU, in evaluation mode.
    """
    device = _device()
    depth = 8 if cells[0].dtype == np.uint8 else 16
    preprocessing = replace(recipe.preprocessing, depth=depth, window=window)
    data = _TrainingCells(recipe, preprocessing, cells, labels, weights, seed, device, threads)
    forked, bar = [device] if device.type == "cuda" else [], Progress(data.num_steps(), "steps", show=verbose)

    def show_steps(model: CellModule) -> None:
        model.on_step_done = lambda: bar.advance(max(model.trainer.global_step - bar.done, 0))

    with _quiet(), torch.random.fork_rng(devices=forked), bar:
        limits: dict[str, Any] = {"max_epochs": recipe.max_epochs, "max_steps": recipe.max_steps}
        trained = train_recipe(recipe, data, classes, preprocessing, seed, device, show_steps, **limits)
    trained.model.on_step_done = None
    if verbose:
        told = ", ".join(f"{name} {value:.3f}" for name, value in trained.model.last_scores.items())
        print_remark(f"{bar.total:,} steps in {trained.seconds:.1f} s; training cells at the end: {told}")
    return trained.model.cpu()


class _TrainingCells(pl.LightningDataModule):
    """Augmented batches of cells in memory; rare classes are repeated if the recipe requires it."""

    def __init__(
        self,
        recipe: Recipe,
        preprocessing: Preprocessing,
        cells: Sequence[np.ndarray],
        labels: np.ndarray,
        weights: np.ndarray,
        seed: int,
        device: torch.device,
        threads: int,
    ) -> None:
        super().__init__()
        self.recipe, self.preprocessing, self.cells, self.weights = recipe, preprocessing, cells, weights
        self.labels = np.asarray(labels, np.int64)
        self.config = LoaderSettings(seed=seed, device=_place_of_work(device, preprocessing), threads=threads)

    def num_steps(self) -> int:
        """Return the number of optimizer steps of the training."""
        rows, limit = len(self._rows()), self.recipe.max_steps
        steps = -(-rows // min(self.recipe.batch_size, rows)) * max(self.recipe.max_epochs, 0)
        return min(steps or limit, limit) if limit >= 0 else steps

    def _rows(self) -> np.ndarray:
        rows = np.arange(len(self.cells))
        balance, cap = resolve_balance(self.recipe.balance, self.recipe.balance_cap, np.bincount(self.labels))
        return oversample(rows, self.labels, self.config.seed, cap) if balance == "oversample" else rows

    @property
    def train_counts(self) -> np.ndarray:
        """Training cells of each class, (K,) int64, repeats not counted."""
        return np.bincount(self.labels)

    @property
    def logit_shift(self) -> np.ndarray | None:
        """Shift of the logits in the training loss, (K,) float32; None where no cell is repeated by ``auto``."""
        rows, cells = np.bincount(self.labels[self._rows()]), np.bincount(self.labels)
        if self.recipe.balance != "auto" or np.array_equal(rows, cells):
            return None
        return logit_shift(rows / np.maximum(cells, 1))

    def train_dataloader(self) -> PoolLoader:
        recipe, seed, rows = self.recipe, self.config.seed, self._rows()
        return PoolLoader(
            make_pool(self.cells, self.config.device),
            self.labels,
            BankOrder(len(rows), min(recipe.batch_size, len(rows)), seed, span=len(rows)),
            self.preprocessing,
            self.config,
            weights=self.weights,
            rows=rows,
            augmentation=recipe.augmentation,
            where=self._epoch,
        )

    def _epoch(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.current_epoch, 0


def classify_cells(module: CellModule, cells: Sequence[np.ndarray], chunk: int, threads: int = 1) -> np.ndarray:
    """Return class probabilities (N, K) float32 of cells.

    Args:
        module: module from `train_on_cells`.
        cells: N arrays (H, W) as in training.
        chunk: number of cells in a batch; the last batch is padded.
        threads: threads of the preprocessing.
    """
    device = _device()
    preprocessing = Preprocessing.from_dict(dict(module.preprocessing))
    place = _place_of_work(device, preprocessing)
    loader = PoolLoader(
        make_pool(cells, place),
        np.full(len(cells), -1),
        StoredOrder(evaluation_share(len(cells), chunk)),
        preprocessing,
        LoaderSettings(device=place, threads=threads),
    )
    module = module.to(device)
    try:
        return class_probabilities(TorchBackend.of_module(module), (batch.images for batch in loader))[: len(cells)]
    finally:
        module.cpu()


def _device() -> torch.device:
    return torch.device("cuda", 0) if resources.has_gpu() else torch.device("cpu")


def _place_of_work(device: torch.device, preprocessing: Preprocessing) -> torch.device:
    """Return the device that makes the images: the CPU if the GPU kernel is not compiled for their size."""
    return device if preprocessing.image_size in GPU_IMAGE_SIZES else torch.device("cpu")


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Lightning's messages inside the context."""
    with warnings.catch_warnings():
        library_settings.quiet()
        yield
