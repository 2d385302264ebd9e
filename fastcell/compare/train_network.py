"""Train one network of a study with Lightning on the engine's batches, and score it on preprocessed cells.

A network is trained for the preset's number of epochs, but at least for a minimum number of optimizer steps, so that a
small volume does not only mean a short training. The minimum never exceeds the number of steps that training on the
whole volume takes. A preset that counts steps uses the same number at every volume. Validation runs at 16 points of the
training. The weights with the lowest validation loss are used, or the last weights if the preset asks for them.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from fastcell.compare.image_array import CellImages
from fastcell.compare.saved_results import PARTS, Task, TaskResult, make_result
from fastcell.compare.split_schemes import SplitManifest
from fastcell.dataset.class_balance import oversample, resolve_balance
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import DIVERGED_HINT, DivergedError, StoppedError
from fastcell.inference.backend_torch import TorchBackend
from fastcell.inference.probabilities import class_probabilities
from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import CellModule
from fastcell.system import library_settings
from fastcell.training.fit import train_recipe
from fastcell.training.recipe import Recipe
from fastcell.training.trainer import leave_memory_unfilled

MIN_STEPS = 600
NUM_CHECKS = 16
_SPLIT = "study"
_BATCH = 256


class Length(NamedTuple):
    """Length of a training.

    Attributes:
        steps: Number of optimizer steps, a multiple of `every`.
        every: Number of steps from one validation to the next.
        batch: Number of cells in a step.
    """

    steps: int
    every: int
    batch: int


def training_length(num_cells: int, num_all: int, recipe: Recipe, min_steps: int = MIN_STEPS) -> Length:
    """Return the length of a training.

    Args:
        num_cells: Number of training cells, including repeats that balance the classes.
        num_all: The same number at the whole volume.
        recipe: Recipe that gives epochs or steps, and batch size.
        min_steps: Minimum number of steps, unless training on the whole volume takes fewer.
    """
    size = recipe.batch_size
    batch = min(size, num_cells)
    if recipe.max_steps > 0:
        steps = recipe.max_steps
    else:
        epochs = int(recipe.trainer.get("max_epochs", 10))
        whole = epochs * math.ceil(num_all / min(size, num_all))
        steps = max(epochs * math.ceil(num_cells / batch), min(min_steps, whole))
    every = max(1, math.ceil(steps / NUM_CHECKS))
    return Length(every * math.ceil(steps / every), every, batch)


def train_network(
    manifest: SplitManifest,
    parts: dict[str, np.ndarray],
    recipe: Recipe,
    seed: int,
    length: Length,
    gpu: int | None = None,
) -> tuple[CellModule, list[dict[str, float]], float]:
    """Train a network on the rows of ``parts["train"]``.

    Args:
        manifest: Manifest of the data set.
        parts: Rows of the manifest by subset.
        recipe: Recipe of the network and its training.
        seed: Random seed of weights, order and augmentation.
        length: Length of the training.
        gpu: Number of the GPU; None for the CPU.

    Returns:
        The model with the selected weights; the logged values, one dict per step with the step's number under ``step``;
        and the time that training took [s].

    Raises:
        StoppedError: The process received SIGTERM.
    """
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    leave_memory_unfilled()
    device = torch.device("cpu") if gpu is None else torch.device("cuda", gpu)
    data = make_data(manifest, parts, recipe, seed, length.batch)
    history = _History()
    with _stopped_by_signals():
        trained = train_recipe(
            recipe,
            data,
            list(manifest.info.classes),
            data.preprocessing,
            seed,
            device,
            deterministic=True if gpu is None else None,
            max_steps=length.steps,
            max_epochs=-1,
            check_val_every_n_epoch=None,
            val_check_interval=length.every,
            limit_val_batches=1.0 if len(parts["valid"]) else 0,
            num_sanity_val_steps=0,
            logger=history,
            log_every_n_steps=1,
        )
    rows = [{"step": float(step), **values} for step, values in sorted(history.rows.items())]
    return trained.model, rows, trained.seconds


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Convert Lightning's exceptions for SIGTERM and Ctrl-C to StoppedError and KeyboardInterrupt."""
    try:
        yield
    except SIGTERMException:
        number = signal.SIGTERM
        raise StoppedError("stopped by SIGTERM. The same command resumes from there.", number) from None
    except SystemExit as error:
        interrupt = error.__context__  # Lightning converts Ctrl-C and SIGTERM to exit status 1
        if isinstance(interrupt, KeyboardInterrupt):
            raise interrupt from None
        raise


def make_data(
    manifest: SplitManifest, parts: dict[str, np.ndarray], recipe: Recipe, seed: int, batch: int
) -> CellDataModule:
    """Return a data module whose subsets are exactly these rows.

    Args:
        manifest: Manifest of the data set.
        parts: Rows of the manifest by subset.
        recipe: Recipe that gives the data settings.
        seed: Random seed of order and augmentation.
        batch: Number of cells in a batch.
    """
    sides = np.full(len(manifest), "", "<U5")
    for part in PARTS:
        sides[parts[part]] = part
    settings = {**recipe.data_arguments(), "batch_size": batch}
    data = CellDataModule(manifest.place, split_name=_SPLIT, seed=seed, **settings)
    data.use_manifest(SplitManifest.of(manifest, {_SPLIT: sides}))
    return data


def num_training_rows(manifest: SplitManifest, rows: np.ndarray, recipe: Recipe) -> int:
    """Return the number of rows of a training epoch, including repeats that balance the classes.

    Args:
        manifest: Manifest of the data set.
        rows: (n,) int64, training rows of the manifest.
        recipe: Recipe that gives the method of balancing.
    """
    labels = manifest.cell_labels[rows]
    balance, cap = resolve_balance(recipe.balance, recipe.balance_cap, np.bincount(labels))
    return len(oversample(rows, labels, 0, cap)) if balance == "oversample" else len(rows)


def fit_network(
    task: Task,
    manifest: SplitManifest,
    parts: dict[str, np.ndarray],
    images: CellImages,
    recipe: Recipe,
    min_steps: int,
    gpu: int | None = None,
) -> TaskResult:
    """Train and score one network of the study.

    Args:
        task: The task.
        manifest: Manifest of the data set.
        parts: Rows of the manifest by subset.
        images: Preprocessed cells for scoring.
        recipe: Recipe of the network and its training.
        min_steps: Minimum number of steps, see `training_length`.
        gpu: Number of the GPU; None for the CPU.

    Raises:
        StoppedError: The process received SIGTERM.
    """
    everything = select(manifest, ViewConfig("train", task.split, labelled=True)).rows
    num_cells, num_all = (num_training_rows(manifest, rows, recipe) for rows in (parts["train"], everything))
    length = training_length(num_cells, num_all, recipe, min_steps)
    model, _, fit_s = train_network(manifest, parts, recipe, task.seed, length, gpu)
    device = torch.device("cpu") if gpu is None else torch.device("cuda", gpu)
    model.to(device)
    predicted, predict_s = {}, 0.0
    for part in PARTS:
        start = time.perf_counter()
        predicted[part] = classify(model, images, parts[part])
        predict_s = time.perf_counter() - start
    details = {
        "network": recipe.model.get("network", "cellnet"),
        "weights": sum(parameter.numel() for parameter in model.network.parameters()),
        "steps": length.steps,
        "batch": length.batch,
        "device": device.type,
    }
    return make_result(task, parts, predicted, fit_s, predict_s, details)


def classify(model: CellModule, images: CellImages, rows: np.ndarray) -> np.ndarray:
    """Return the predicted classes (n,) int64 of some rows of the manifest.

    Raises:
        DivergedError: a probability is NaN or infinite.
    """
    if not len(rows):
        return np.empty(0, np.int64)
    pixels, places = images.open(), images.places(rows)
    batches = (pixels[places[begin : begin + _BATCH]][:, None] for begin in range(0, len(rows), _BATCH))
    probabilities = class_probabilities(TorchBackend.of_module(model), batches)
    if not np.isfinite(probabilities).all():
        raise DivergedError(f"{model.network_name} predicts probabilities that are not finite. {DIVERGED_HINT}.")
    return probabilities.argmax(axis=1)


class _History(Logger):
    """Keep the logged values in memory.

    Attributes:
        rows: Logged values by step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the recipe holds the hyperparameters."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.setdefault(int(step or 0), {}).update(metrics)
