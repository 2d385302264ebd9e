"""The inputs of a model: a batch of images, or several training steps as indices of cells."""

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


class PlannedSteps(NamedTuple):
    """Several training steps on cells of a bank, all tensors on its device; no image is made yet.

    Attributes:
        cells: (n, B) int64, cells of the pool.
        positions: (n, B) int64, position of each cell in the epoch.
        labels: (n, B) int64.
        cell_ids: (n, B) int64, row of the manifest.
        weight: (n, B) float32, as in `Batch`.
        totals: (n,) int64, number of cells that each step should have over all ranks, corrupt ones included; a whole
            number, since a trainer converts others to its precision.
        clock: (2,) int64, seed and epoch (`fastcell.ops.transform.make_clock`).
    """

    cells: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    cell_ids: torch.Tensor
    weight: torch.Tensor
    totals: torch.Tensor
    clock: torch.Tensor
