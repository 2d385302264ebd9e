"""A batch of decoded cells of different sizes, passed from a decoder to a transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass
class RaggedCells:
    """A batch of ragged cells.

    Attributes:
        cell_ids: (B,) int64.
        heights: (B,) int32 [px].
        widths: (B,) int32 [px].
        pixels: B samples (H, W, 1): DALI's tensor list, on the CPU or the GPU, or a sequence of arrays.
        addresses: (B,) int64, address of each cell's first pixel, or None on the GPU. `pixels` keeps the memory alive.
        depth: bits per grey level: 8 for uint8, 16 for uint16 where 65535 is grey level 255.
        pool: pool (one dimension) that holds cells of a bank; None for streamed cells.
        offsets: (B,) int64, first pixel of each cell in `pool`; None for streamed cells.
        good: (B,) bool, False for the stand-in of a corrupt cell; None if all cells are good.
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
        """Size of each cell's pixels [bytes], (B,) int64."""
        return self.heights.astype(np.int64) * self.widths * (self.depth // 8)


class PixelViews(Sequence[Any]):
    """Sequence of cells (H, W, 1) in one array; each is a view that is made on access, without a copy.

    Args:
        memory: (n,) pixels of all cells: an array, or a GPU tensor; the cells are of the same type.
        starts: (B,) int64, first pixel of each cell in `memory`.
        heights, widths: (B,) int32 [px].
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
