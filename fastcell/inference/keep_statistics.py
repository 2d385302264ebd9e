"""Add statistics of training cells and the calibration of the probabilities to the checkpoint of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.views import View
from fastcell.inference.confidence import CHECKPOINT_KEY as CONFIDENCE_KEY
from fastcell.inference.confidence import Confidence, fit_confidence
from fastcell.inference.measure_batches import MeasuredCells, measure_batches
from fastcell.inference.unlike.fit_training_cells import fit_training_cells
from fastcell.inference.unlike.image_features import network_image_features
from fastcell.inference.unlike.images_without_cells import images_without_cells
from fastcell.inference.unlike.training_cells import CHECKPOINT_KEY, LEAST_TRAINING_CELLS, TrainingCells
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.loader import CellLoader
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.settings import LoaderSettings
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import read_checkpoint, save_checkpoint
from fastcell.system.resources import num_cpus

MOST_CELLS = 10_000
_BATCH = 256
LEAST_FOUND = 0.8
"""Minimum share of images without a cell that should be found unlike training cells; below it, `fit` prints a caution.
"""
_IMAGES_WITHOUT_CELLS = 128


def keep_statistics(
    trainer: pl.Trainer, model: CellModule, data: CellDataModule, checkpoint: Path
) -> tuple[str, list[str]]:
    """Measure up to 10,000 training cells and 10,000 validation cells, without augmentation, and add their statistics
    to a checkpoint.

    Args:
        trainer: trainer of the run, for its precision.
        model: model that has the weights of the checkpoint.
        data: data with labels.
        checkpoint: file of the run folder, which is replaced.

    Returns:
        One line for the user, and a caution if images without a cell look like the training cells.
    """
    model.to(trainer.strategy.root_device).eval()  # a trainer that has ended leaves it on the CPU
    train, valid = (_measure(trainer, model, data, part) for part in ("train", "valid"))
    known = confidence = None
    if train is not None:
        held_out = None if valid is None else (valid.image, valid.network)
        known = fit_training_cells(train.image, train.network, train.labels, held_out)
    if valid is not None:
        confidence = _confidence(data, valid)
    added = {CHECKPOINT_KEY: known, CONFIDENCE_KEY: confidence}
    plain = {name: _as_tensors(found.to_checkpoint()) for name, found in added.items() if found is not None}
    save_checkpoint(read_checkpoint(checkpoint) | plain, checkpoint)
    line = f"{_describe(known)}; {_describe_confidence(confidence)}"
    if known is None:
        return line, []
    part = "train" if valid is None else "valid"
    return line, blind_spots(_found_without_cells(trainer, model, data, part, known))


def blind_spots(found: dict[str, float]) -> list[str]:
    """Return a caution about images without a cell that look like training cells; empty if there are none.

    Args:
        found: share of these images that are found unlike training cells, by kind of image.
    """
    missed = [f"{share:.0%} of {name}" for name, share in found.items() if share < LEAST_FOUND]
    if not missed:
        return []
    text = (
        "Caution: this run does not find all images without a cell. Of such images, made from its own cells, only "
        f"{' and '.join(missed)} would be found unlike the training cells (column unlike_training of fastcell "
        "predict). A common cause is training images that contain no cell: fastcell qc finds them."
    )
    return [text]


def _found_without_cells(
    trainer: pl.Trainer, model: CellModule, data: CellDataModule, part: str, known: TrainingCells
) -> dict[str, float]:
    """Return the share of images without a cell (made from up to 128 cells) that are found unlike, by kind."""
    rows = _rows(data, part, _IMAGES_WITHOUT_CELLS)
    scores: dict[str, list[np.ndarray]] = {}
    dtype = next(model.parameters()).dtype
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        for batch in _loader(model, data, rows):
            images = batch.images[batch.weight > 0].float().cpu().numpy()
            for name, made in images_without_cells(images).items():
                on_device = torch.from_numpy(made).to(batch.images.device, dtype)
                features, _ = model.features_and_probabilities(on_device)
                image_features = network_image_features(made)
                scores.setdefault(name, []).append(known.measure(image_features, features.cpu().numpy()).scores)
    return {name: float((np.concatenate(parts) > 1).mean()) for name, parts in scores.items()}


def _describe(known: TrainingCells | None) -> str:
    if known is None:
        return f"cells unlike those of training cannot be found with fewer than {LEAST_TRAINING_CELLS} training cells"
    by = (
        f"{known.num_held_out:,} validation cells"
        if known.num_held_out
        else "the same cells, because there are too few validation cells"
    )
    return f"statistics of {known.num_training:,} training cells, limits from {by}"


def _describe_confidence(confidence: Confidence | None) -> str:
    if confidence is None:
        return "no temperature, because there are no validation cells"
    return f"temperature {confidence.temperature:.3f} from {len(confidence.right):,} validation cells"


def _confidence(data: CellDataModule, valid: MeasuredCells) -> Confidence:
    finite = np.isfinite(valid.probabilities).all(axis=1)
    groups = data.manifest.groups
    numbers = None if groups is None else np.unique(groups[valid.cell_ids[finite]], return_inverse=True)[1]
    return fit_confidence(valid.probabilities[finite], valid.labels[finite], numbers)


def _rows(data: CellDataModule, part: str, most: int) -> np.ndarray:
    """Return up to `most` labelled cells of a subset, evenly spaced; empty if there are none."""
    view = data.view(part)
    rows = np.empty(0, np.int64) if view is None else np.unique(view.rows)
    rows = rows[data.manifest.cell_labels[rows] >= 0]
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(np.int64)]


def _loader(model: CellModule, data: CellDataModule, rows: np.ndarray) -> CellLoader:
    """Return batches of one or more cells, preprocessed as in prediction."""
    return CellLoader(
        View(data.manifest, rows),
        evaluation_share(len(rows), min(_BATCH, len(rows))),
        data.preprocessing,
        LoaderSettings(device=model.device, threads=num_cpus()),
        corrupt_cells=CorruptCells(data.manifest, "replace"),
    )


def _measure(trainer: pl.Trainer, model: CellModule, data: CellDataModule, part: str) -> MeasuredCells | None:
    """Measure evenly spaced labelled cells of a subset; None if there are none."""
    rows = _rows(data, part, MOST_CELLS)
    if not len(rows):
        return None
    with trainer.precision_plugin.forward_context():
        found = measure_batches(model, _loader(model, data, rows), num_cpus())
    return found if len(found.labels) else None


def _as_tensors(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with tensors instead of arrays, as ``torch.load(weights_only=True)`` requires."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }
