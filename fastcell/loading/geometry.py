"""Settings applied to each cell of a batch by every transform: affine map, grey level outside, augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.ops.augmentation import Augmentation, Draw, draw
from fastcell.ops.border import outside_levels
from fastcell.ops.matrices import matrices

if TYPE_CHECKING:
    import torch

    from fastcell.ops.transform import CellPool


class Geometry:
    """Affine map, grey level outside and augmentation of each cell, shared by all transforms.

    Args:
        manifest: manifest of the cells.
        preprocessing: size, fit and scale.
        augmentation: random changes; None or `Augmentation.none()` leaves the cells unchanged.
        seed: seed of the augmentation.
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
        """Return the augmentation of the cells at (B,) int64 `positions` of an epoch; None without augmentation."""
        return None if self.augmentation is None else draw(self.augmentation, self.seed, epoch, positions)

    def columns(self, cell_ids: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return grey level outside the cells and micrometres per pixel, (B,) float32 each, or None if not needed."""
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
        """Return images of cells of a pool that has the columns of `columns` (`fastcell.ops.transform.transform`)."""
        from fastcell.ops.transform import transform  # imports torch

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
            antialias=values.antialias,
            dtype=dtype,
            threads=threads,
        )

    def matrices(self, cells: RaggedCells, drawn: Draw | None) -> np.ndarray:
        """Return the maps from output pixel centre to source point, (B, 2, 3) float64."""
        values = self.preprocessing
        um_per_px = None if self._um_per_px is None else self._um_per_px[cells.cell_ids]
        return matrices(
            cells.heights, cells.widths, values.image_size, values.fit, drawn, values.scale_um_per_px, um_per_px
        )

    def fill(self, cells: RaggedCells) -> np.ndarray:
        """Return the grey level outside each cell, (B,) float32; NaN to repeat its edge pixels."""
        if self._border is None:
            return np.full(len(cells), np.nan, np.float32)
        return self._border[cells.cell_ids]


class Transform(Protocol):
    """Callable that turns cells into images."""

    def __call__(self, cells: RaggedCells, positions: np.ndarray) -> torch.Tensor:
        """Return images (B, 1, S, S) of the cells, which are at (B,) int64 `positions` of the epoch."""
