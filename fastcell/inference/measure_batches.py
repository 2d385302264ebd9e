"""Measure image features, activations and probabilities of cells in one pass over batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

from fastcell.inference.unlike.image_features import network_image_features
from fastcell.loading.batch import Batch
from fastcell.models.lightning_module import CellModule


class MeasuredCells(NamedTuple):
    """N cells in the order of their batches, without padding and corrupt cells.

    Attributes:
        image: (N, F) float32 image features.
        network: (N, D) float32 penultimate activations.
        probabilities: (N, K) float32.
        labels: (N,) int64.
        cell_ids: (N,) int64.
    """

    image: np.ndarray
    network: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    cell_ids: np.ndarray


def measure_batches(model: CellModule, batches: Iterable[Batch], threads: int) -> MeasuredCells:
    """Run the network over batches of float32 images, and measure the images.

    Args:
        model: model in evaluation mode, on the device of the batches.
        batches: at least one batch.
        threads: threads that measure images.
    """
    dtype = next(model.parameters()).dtype
    columns: list[tuple[np.ndarray, ...]] = []
    with torch.inference_mode():
        for batch in batches:
            found = (*model.features_and_probabilities(batch.images.to(dtype)), batch.labels, batch.cell_ids)
            real = (batch.weight > 0).cpu().numpy()
            image = network_image_features(batch.images.cpu().numpy(), threads)
            columns.append(tuple(column[real] for column in (image, *(value.cpu().numpy() for value in found))))
    return MeasuredCells(*(np.concatenate(column) for column in zip(*columns, strict=True)))
