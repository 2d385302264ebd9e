"""Batches of cells that are in memory as arrays, without a data set or files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from fastcell.errors import invalid
from fastcell.loading.batch import Batch
from fastcell.loading.loader import BatchLoader
from fastcell.loading.order import BankOrder, StoredOrder
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.transforms import to_device
from fastcell.ops.augmentation import Augmentation
from fastcell.ops.border import border_median
from fastcell.ops.transform import CellPool, make_clock, transform


def make_pool(cells: Sequence[np.ndarray], device: torch.device | None = None) -> CellPool:
    """Copy cells into one pool, one after another.

    Args:
        cells: M arrays (H, W) of any sizes, all uint8, or all uint16 with 65535 for grey level 255.
        device: device of the pool; None for the CPU.

    Raises:
        ArgumentError: there is no cell, or a cell is empty or has another dtype or number of axes.
    """
    if not len(cells):
        raise invalid("cells", "at least 1", 0, "Give images")
    dtype = cells[0].dtype
    for number, cell in enumerate(cells):
        if cell.ndim != 2 or not cell.size or cell.dtype != dtype or dtype not in (np.uint8, np.uint16):
            got = f"{cell.dtype} {cell.shape}"
            raise invalid(f"cells[{number}]", "a grey image (H, W), uint8 or uint16 as all of them", got, "Convert it")
    heights, widths = (np.array([cell.shape[axis] for cell in cells], np.int32) for axis in (0, 1))
    sizes = heights.astype(np.int64) * widths
    columns = (
        np.concatenate([cell.ravel() for cell in cells]),
        np.cumsum(sizes) - sizes,
        heights,
        widths,
        np.array([border_median(cell) / (1 if dtype == np.uint8 else 257) for cell in cells], np.float32),
    )
    return CellPool(*(to_device(column, device or torch.device("cpu")) for column in columns))


class PoolLoader(BatchLoader):
    """Iterable of batches made from the cells of a pool, in the same way as from a bank.

    Args:
        pool: M cells, on the device of `config`.
        labels: (M,) int64.
        order: order of the batches; its entries are indices of cells, or indices into `rows`.
        preprocessing: size, fit and normalisation.
        config: settings of the loader.
        weights: (M,) float32, weight of each cell in the loss; None for equal weights.
        rows: (n,) int64, cells in the order that `order` indexes, repeats allowed; None for all cells.
        augmentation: random changes; None for no augmentation.
        where: called at the start of an iteration, returns epoch and first step; None for an
            `fastcell.loading.loader.EpochCounter`.
    """

    def __init__(
        self,
        pool: CellPool,
        labels: np.ndarray,
        order: BankOrder | StoredOrder,
        preprocessing: Preprocessing,
        config: LoaderSettings = LoaderSettings(),
        *,
        weights: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        augmentation: Augmentation | None = None,
        where: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(config, where)
        self.order, self.preprocessing, self.augmentation = order, preprocessing, augmentation
        self.batch_size = order.batch
        # Stretched cells need no border level; with one, the kernel would paint a border around them.
        self._pool = pool._replace(border=None) if preprocessing.fit == "stretch" else pool
        self._labels = labels.astype(np.int64)
        self._weights = np.ones(len(labels), np.float32) if weights is None else weights.astype(np.float32)
        self._rows = np.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return self.order.steps

    def num_cells(self, step: int) -> int:
        order = self.order
        if isinstance(order, BankOrder):
            return order.num_real_of_all(step)
        return order.share.num_real_of_chunks(step, len(self._rows))

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        values, device = self.preprocessing, self.config.device
        clock = to_device(make_clock(self.config.seed, epoch).numpy(), device)
        for step in range(first, self.order.steps):
            chosen = self.order.batches(epoch, step, step + 1)
            cells = self._rows[chosen.entries[0].astype(np.int64)]
            index = to_device(cells, device)
            images = transform(
                self._pool,
                index,
                to_device(chosen.positions[0], device),
                clock,
                image_size=values.image_size,
                fit=values.fit,
                augmentation=self.augmentation,
                mode=values.normalization,
                scale_um_per_px=values.scale_um_per_px,
                antialias=values.antialias,
                dtype=self.config.dtype,
                threads=self.config.threads,
            )
            weight = self._weights[cells] * chosen.real[0].astype(np.float32)
            yield Batch(images, to_device(self._labels[cells], device), index, to_device(weight, device))
