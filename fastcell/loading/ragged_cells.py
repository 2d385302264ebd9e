"""A batch of decoded cells of different sizes, on the way from a decoder to a transform."""

from __future__ import annotations

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
        good: (B,) bool, False for the stand-in of a lost cell; None where all are good.
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

    def part(self, begin: int, end: int) -> RaggedCells:
        """The cells from `begin` up to `end`, without a copy."""
        if begin == 0 and end == len(self):
            return self
        keep = slice(begin, end)
        pixels = [self.pixels[slot] for slot in range(begin, end)]
        addresses = None if self.addresses is None else self.addresses[keep]
        good = None if self.good is None else self.good[keep]
        return RaggedCells(
            self.cell_ids[keep], self.heights[keep], self.widths[keep], pixels, addresses, self.depth, good=good
        )
