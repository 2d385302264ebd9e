"""What is done to each cell of a batch, whichever transform does it: map, grey level outside, augmentation."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from fastcell.dataset.manifest import Manifest
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.ops.augmentation import Augmentation, Draw, draw
from fastcell.ops.border import outside_levels
from fastcell.ops.matrices import matrices
from fastcell.ops.transform import CellPool, transform


class Geometry:
    """What is done to each cell of a batch: affine map, grey level outside, augmentation; the same for both transforms.

    Args:
        manifest: of the cells.
        preprocessing: size, fit, scale.
        augmentation: None or `Augmentation.none()` leaves the cells as they are.
        seed: of the augmentation.
    """

    def __init__(
        self, manifest: Manifest, preprocessing: Preprocessing, augmentation: Augmentation | None, seed: int
    ) -> None:
        self.preprocessing = preprocessing
        self.augmentation = None if augmentation is None or augmentation.is_none else augmentation
        self.seed = seed
        self._border = outside_levels(manifest.column("border_median"), preprocessing.fit)
        self.fills = self._border is not None
        self._um_per_px = manifest.column("um_per_px") if preprocessing.fit == "scale" else None

    def draw(self, epoch: int, positions: np.ndarray) -> Draw | None:
        """The augmentation of the cells at (B,) int64 `positions` of an epoch; None without augmentation."""
        return None if self.augmentation is None else draw(self.augmentation, self.seed, epoch, positions)

    def columns(self, cell_ids: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(B,) float32 each: grey level outside of the cells and micrometres per pixel, None where nobody asks."""
        border = None if self._border is None else self._border[cell_ids]
        return border, None if self._um_per_px is None else self._um_per_px[cell_ids].astype(np.float32)

    def transform(
        self,
        pool: CellPool,
        index: torch.Tensor,
        position: torch.Tensor,
        clock: torch.Tensor,
        dtype: torch.dtype,
        threads: int = 1,
    ) -> torch.Tensor:
        """Images of some cells of a pool that has the columns of `columns` (see `fastcell.ops.transform.transform`)."""
        values = self.preprocessing
        return transform(
            pool,
            index,
            position,
            clock,
            image_size=values.image_size,
            fit=values.fit,
            augmentation=self.augmentation,
            mode=values.normalization,
            scale_um_per_px=values.scale_um_per_px,
            dtype=dtype,
            threads=threads,
        )

    def matrices(self, cells: RaggedCells, drawn: Draw | None) -> np.ndarray:
        """(B, 2, 3) float64, output pixel centre to source point."""
        values = self.preprocessing
        um_per_px = None if self._um_per_px is None else self._um_per_px[cells.cell_ids]
        return matrices(
            cells.heights, cells.widths, values.image_size, values.fit, drawn, values.scale_um_per_px, um_per_px
        )

    def fill(self, cells: RaggedCells) -> np.ndarray:
        """(B,) float32, grey level outside of the cell; NaN where its edge continues."""
        if self._border is None:
            return np.full(len(cells), np.nan, np.float32)
        return self._border[cells.cell_ids]


class Transform(Protocol):
    """A way from cells to images."""

    def __call__(self, cells: RaggedCells, positions: np.ndarray) -> torch.Tensor:
        """Give (B, 1, S, S) images of the cells, which stand at (B,) int64 `positions` of the epoch."""
