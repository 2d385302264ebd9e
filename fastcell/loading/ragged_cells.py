"""A batch of decoded cells of different sizes, on the way from a decoder to a transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass
class RaggedCells:
    """A batch of ragged cells.

    Attributes:
        cell_ids: (B,) int64.
        heights: (B,) int32.
        widths: (B,) int32.
        pixels: B samples (H, W, 1): DALI's tensor list, on the CPU or the GPU, or a sequence of arrays.
        addresses: (B,) int64, where each cell's pixels begin, or None on the GPU. `pixels` keeps them alive.
        depth: bits of a grey level: 8 for uint8, 16 for uint16 where 65535 is grey level 255.
        pool: one dimension, where cells of a bank lie, and
        offsets: (B,) int64, first pixel of each in it; None for cells that just pass through.
        good: (B,) bool, False for the stand-in of a corrupt cell; None where all are good.
    """

    cell_ids: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    pixels: Any
    addresses: np.ndarray | None
    depth: int = 8
    pool: torch.Tensor | None = None
    offsets: np.ndarray | None = None
    good: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.cell_ids)

    @property
    def num_bytes(self) -> np.ndarray:
        """(B,) int64, size of each cell's pixels."""
        return self.heights.astype(np.int64) * self.widths * (self.depth // 8)


class PixelViews(Sequence[Any]):
    """Cells inside of one piece of memory, (H, W, 1) each, cut out when asked for, without a copy.

    Args:
        memory: (n,) pixels of all cells: an array, or a tensor of a GPU, whose cells are tensors then.
        starts: (B,) int64, first pixel of each cell in it.
        heights, widths: (B,) int32.
    """

    def __init__(
        self, memory: np.ndarray | torch.Tensor, starts: np.ndarray, heights: np.ndarray, widths: np.ndarray
    ) -> None:
        self._memory, self._starts, self._heights, self._widths = memory, starts, heights, widths

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, slot: Any) -> Any:
        if slot >= len(self):
            raise IndexError(slot)
        begin, height, width = (int(column[slot]) for column in (self._starts, self._heights, self._widths))
        return self._memory[begin : begin + height * width].reshape(height, width, 1)
