"""The batch: the only input that a model receives."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """One batch of cells, all tensors on the same device.

    Attributes:
        images: (B, 1, H, W) float32, float16 or bfloat16; resized, augmented and normalised.
        labels: (B,) int64, index into the classes of the data set; -1 if the class is unknown.
        cell_ids: (B,) int64, row of the cell in the manifest.
        weight: (B,) float32; 1 for a cell that counts, 0 for padding and for the stand-in of a corrupt cell. Loss and
            metrics are weighted with it, so that all ranks take the same number of steps and every cell counts once.
    """

    images: torch.Tensor
    labels: torch.Tensor
    cell_ids: torch.Tensor
    weight: torch.Tensor
