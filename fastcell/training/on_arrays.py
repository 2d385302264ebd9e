"""Training and classifying cells in memory: what ``fastcell fit`` does, without a data set or a run folder."""

from __future__ import annotations

import importlib.resources
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import yaml

from fastcell.dataset.class_balance import oversample
from fastcell.errors import invalid
from fastcell.loading.array_loader import PoolLoader, make_pool
from fastcell.loading.order import BankOrder, StoredOrder
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.settings import LoaderSettings
from fastcell.models.lightning_module import CellModule
from fastcell.ops.augmentation import Augmentation
from fastcell.ops.transform import GPU_IMAGE_SIZES
from fastcell.system import library_settings, resources

_OF_PREPROCESSING = ("image_size", "fit", "normalization")


@dataclass(frozen=True)
class Recipe:
    """What a preset says, with some of it changed.

    Attributes:
        model: arguments of the Lightning module.
        preprocessing: of the images.
        augmentation: of training.
        batch_size: cells per step.
        balance: ``none`` or ``oversample``, as in `fastcell.dataset.views.ViewConfig`.
        max_epochs, max_steps: what ends the training, -1 for nothing; one of them does.
    """

    model: dict[str, Any]
    preprocessing: Preprocessing
    augmentation: Augmentation
    batch_size: int = 256
    balance: str = "none"
    max_epochs: int = 1
    max_steps: int = -1

    @classmethod
    def of_preset(
        cls,
        name: str,
        *,
        network: str | None = None,
        learning_rate: float | None = None,
        image_size: int | None = None,
        fit: str | None = None,
        normalization: str | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        augment: bool = True,
    ) -> Recipe:
        """Read a packaged preset; what is not None replaces its value.

        Raises:
            ArgumentError: an unknown preset, or a value outside its range.
        """
        files = {path.name: path for path in (importlib.resources.files("fastcell") / "presets").iterdir()}
        if f"{name}.yaml" not in files:
            known = ", ".join(sorted(file.removesuffix(".yaml") for file in files))
            raise invalid("preset", f"one of {known}", name, "Take fast for the modern recipe")
        values = yaml.safe_load(files[f"{name}.yaml"].read_text(encoding="utf-8"))
        data, trainer = dict(values["data"]), values["trainer"]
        given = {"image_size": image_size, "fit": fit, "normalization": normalization}
        data |= {key: value for key, value in given.items() if value is not None}
        model = dict(values["model"])
        model |= {} if network is None else {"network": network}
        model |= {} if learning_rate is None else {"learning_rate": float(learning_rate)}
        for key, value in (("batch_size", batch_size), ("epochs", epochs)):
            if value is not None and (isinstance(value, bool) or value != int(value) or value < 1):
                raise invalid(key, "a positive whole number", value, "Leave it out for the preset's")
        return cls(
            model,
            Preprocessing(**{key: data[key] for key in _OF_PREPROCESSING if key in data}),
            Augmentation(**data.get("augmentation", {})) if augment else Augmentation.none(),
            int(batch_size or data.get("batch_size", 256)),
            data.get("balance", "none"),
            int(epochs or trainer.get("max_epochs", -1)),
            -1 if epochs else int(trainer.get("max_steps", -1)),
        )


def train_on_cells(
    recipe: Recipe,
    cells: Sequence[np.ndarray],
    labels: np.ndarray,
    weights: np.ndarray,
    classes: list[str],
    seed: int,
    threads: int = 1,
    window: tuple[float, float] | None = None,
) -> CellModule:
    """Train a classifier, on the GPU where there is one. The last weights are kept: nothing is held back to choose by.

    Args:
        recipe: how.
        cells: N arrays (H, W), uint8, or uint16 where 65535 is grey level 255.
        labels: (N,) int, numbers in `classes`.
        weights: (N,) how much each cell counts in the loss.
        classes: K names.
        seed: of weights, order and augmentation; torch's own random state is left as it was.
        threads: of the preprocessing.
        window: that the levels of uint16 cells come from, kept with the preprocessing.

    Returns:
        The Lightning module, on the CPU, in evaluation mode.
    """
    device = torch.device("cuda", 0) if resources.has_gpu() else torch.device("cpu")
    depth = 8 if cells[0].dtype == np.uint8 else 16
    preprocessing = Preprocessing(**{**recipe.preprocessing.to_dict(), "depth": depth, "window": window})
    labels = np.asarray(labels, np.int64)
    rows = np.arange(len(cells))
    if recipe.balance == "oversample":
        rows = oversample(rows, labels, seed)
    order = BankOrder(len(rows), min(recipe.batch_size, len(rows)), seed, span=len(rows))
    with _quiet(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        module = CellModule(**recipe.model, classes=classes, preprocessing=preprocessing.to_dict())
        trainer = _trainer(recipe, device)
        place = _place_of_work(device, preprocessing)
        loader = PoolLoader(
            make_pool(cells, place),
            labels,
            order,
            preprocessing,
            LoaderSettings(seed=seed, device=place, threads=threads),
            weights=weights,
            rows=rows,
            augmentation=recipe.augmentation,
            where=lambda: (trainer.current_epoch, 0),
        )
        trainer.fit(module, train_dataloaders=loader)
    # It would be kept alive with everything in it.
    module.trainer = None  # type: ignore[assignment]
    return module.cpu().eval()


def classify_cells(module: CellModule, cells: Sequence[np.ndarray], chunk: int, threads: int = 1) -> np.ndarray:
    """Probabilities (N, K) float32 of cells.

    Args:
        module: from `train_on_cells`.
        cells: N arrays (H, W) as in training.
        chunk: cells at a time, the last ones padded.
        threads: of the preprocessing.
    """
    device = torch.device("cuda", 0) if resources.has_gpu() else torch.device("cpu")
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
        with torch.inference_mode():
            chances = [module.predict_probabilities(batch.images.to(device)).cpu().numpy() for batch in loader]
    finally:
        module.cpu()
    return np.concatenate(chances)[: len(cells)]


def _place_of_work(device: torch.device, preprocessing: Preprocessing) -> torch.device:
    """Where the images are made: on the CPU where the GPU's kernel is not compiled for their size."""
    return device if preprocessing.image_size in GPU_IMAGE_SIZES else torch.device("cpu")


def _trainer(recipe: Recipe, device: torch.device) -> pl.Trainer:
    precision: Any = "32-true"
    if device.type == "cuda":
        precision = "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision=precision,
        max_epochs=recipe.max_epochs,
        max_steps=recipe.max_steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No remarks of Lightning inside."""
    with warnings.catch_warnings():
        library_settings.quiet()
        yield
