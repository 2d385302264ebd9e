"""Loaders of cells in a bank: batches of images, or training steps as indices on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from fastcell.dataset.corrupt_cells import stand_in
from fastcell.dataset.rows.cell_labels import CellLabels
from fastcell.dataset.views import View
from fastcell.loading.batch import Batch, PlannedSteps
from fastcell.loading.geometry import Geometry
from fastcell.loading.loader import BatchLoader, GroupedLoader, Lazy
from fastcell.loading.order import BankOrder, StoredOrder
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.bank import CellBank
from fastcell.loading.stores.pixel_pool import pool_cells
from fastcell.loading.transforms import make_transform, resolve_transform, to_device
from fastcell.ops.augmentation import Augmentation
from fastcell.ops.transform import CellPool, make_clock

# Number of steps whose indices are copied to the device together: few copies, little memory.
_STEPS_AT_ONCE = 256


class BankLoader(BatchLoader):
    """Batches of cells in a bank; nothing is read or decoded after the first epoch.

    Args:
        bank: cells of this rank.
        view: view that the cells are from.
        order: order of the batches; its entries are rows of the bank.
        preprocessing: size, fit and normalisation.
        config: settings of the loader.
        augmentation: random changes; None for no augmentation.
        labels: (N,) int64 label of every row of the manifest; None uses the labels of the manifest.
        where: called at the start of an iteration, returns epoch and first step; None for an `EpochCounter`.

    Raises:
        ArgumentError: see `fastcell.loading.transforms.make_transform`.
    """

    def __init__(
        self,
        bank: CellBank,
        view: View,
        order: BankOrder | StoredOrder,
        preprocessing: Preprocessing,
        config: LoaderSettings = LoaderSettings(),
        *,
        augmentation: Augmentation | None = None,
        labels: CellLabels | np.ndarray | None = None,
        where: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(config, where)
        self.bank, self.view, self.order = bank, view, order
        self.batch_size = order.batch
        self._geometry = Geometry(view.manifest, preprocessing, augmentation, config.seed)
        self._one_launch = resolve_transform(config.transform, preprocessing, config.device_id) == "fused"
        self._make_transform = partial(
            make_transform,
            config.transform,
            self._geometry,
            batch=order.batch,
            dtype=config.dtype,
            threads=config.threads,
            device_id=config.device_id,
            rank=getattr(order, "rank", 0),
        )
        self._labels = view.manifest.cell_labels if labels is None else labels
        self._columns: tuple[CellPool, torch.Tensor, torch.Tensor] | None = None
        self._sides: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.order.steps

    def global_weight(self, step: int) -> int | None:
        return self.order.num_real_of_all(step) if isinstance(self.order, BankOrder) else None

    def num_cells(self, step: int) -> int:
        order = self.order
        if isinstance(order, BankOrder):
            return order.num_real_of_all(step)
        return order.share.num_real_of_chunks(step, len(self.view))

    @property
    def makes_images_on_device(self) -> bool:
        """Whether one call of `images` makes a batch from indices that are on the device."""
        return self._one_launch

    def images(self, index: torch.Tensor, positions: torch.Tensor, clock: torch.Tensor) -> torch.Tensor:
        """Return images (B, 1, S, S) of cells of the pool, (B,) int64, at their positions in the epoch of a clock."""
        which = (self._of_pool()[0], index, positions, clock)
        return self._geometry.transform(*which, self.config.dtype, self.config.threads)

    def plans(self, group: int) -> Iterator[PlannedSteps]:
        """Return the steps of the next iteration in groups of `group`, prefetched; the last one has the rest.

        The cells of a training step are those of the batches of this loader.
        """

        def start() -> Iterator[PlannedSteps]:
            epoch, first = self._where()
            return self.prefetched(lambda: self._plans(epoch, first, group))

        return Lazy(start)

    def _plans(self, epoch: int, first: int, group: int) -> Iterator[PlannedSteps]:
        device, order = self.config.device, self.order
        assert isinstance(order, BankOrder)
        _, labels_of, ids_of = self._of_pool()
        clock = to_device(make_clock(self.config.seed, epoch).numpy(), device)
        for begin in range(first, order.steps, group):
            end = min(begin + group, order.steps)
            batches = order.batches(epoch, begin, end)
            slots, weight = self.bank.slots[batches.entries].astype(np.int64), batches.real.astype(np.float32)
            self.bank.wait(slots)
            if not self.bank.all_good:
                good = self.bank.is_good[slots]
                slots = np.stack([stand_in(row, keep) for row, keep in zip(slots, good, strict=True)])
                weight *= good
            totals = np.array([order.num_real_of_all(step) for step in range(begin, end)], np.int64)
            index = to_device(slots, device)
            labels, ids = (column[index].long() for column in (labels_of, ids_of))
            positions, weights, sums = (to_device(values, device) for values in (batches.positions, weight, totals))
            yield PlannedSteps(index, positions, labels, ids, weights, sums, clock)
        order.prepare(epoch + 1)  # the model has not used the last steps yet

    def _of_pool(self) -> tuple[CellPool, torch.Tensor, torch.Tensor]:
        if self._columns is None:
            self._columns = self._on_device()
        return self._columns

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        device = self.config.device
        pool, labels_of, ids_of = self._of_pool()
        if pool.pixels.is_cuda:
            pool.pixels.record_stream(torch.cuda.current_stream(device))
        clock = to_device(make_clock(self.config.seed, epoch).numpy(), device)
        transform = None if self._one_launch else self._make_transform(epoch=epoch)
        for begin in range(first, self.order.steps, _STEPS_AT_ONCE):
            batches = self.order.batches(epoch, begin, min(begin + _STEPS_AT_ONCE, self.order.steps))
            slots = self.bank.slots[batches.entries].astype(np.int64)
            index, position = to_device(slots, device), to_device(batches.positions, device)
            weights = to_device(batches.real.astype(np.float32), device)
            labels, ids = (column[index].long() for column in (labels_of, ids_of))
            for step in range(len(slots)):
                self.bank.wait(slots[step], on_host=transform is not None)
                chosen, place = slots[step], index[step]
                columns = (labels[step], ids[step], weights[step])
                if not self.bank.all_good and not (good := self.bank.is_good[chosen]).all():
                    chosen = stand_in(chosen, good)
                    place, weight = to_device(chosen, device), columns[2] * to_device(good.astype(np.float32), device)
                    columns = (labels_of[place].long(), ids_of[place].long(), weight)
                if isinstance(self.order, StoredOrder):  # in evaluation, no score may count a stand-in
                    columns = (torch.where(columns[2] > 0, columns[0], -1), *columns[1:])
                if transform is None:
                    images = self.images(place, position[step], clock)
                else:
                    images = transform(self._cells(chosen), batches.positions[step])
                yield Batch(images, *columns)
        if isinstance(self.order, BankOrder):  # the model has not used the last batches yet
            self.order.prepare(epoch + 1)

    def _on_device(self) -> tuple[CellPool, torch.Tensor, torch.Tensor]:
        """Return the pool with the columns that the geometry needs, and labels and cell_ids (M,) int32 of its cells."""
        device, ids = self.config.device, self.bank.cell_ids
        border, um_per_px = (
            None if values is None else to_device(values, device) for values in self._geometry.columns(ids)
        )
        pool = self.bank.pool._replace(border=border, um_per_px=um_per_px)
        labels, cell_ids = to_device(self._labels[ids].astype(np.int32), device), to_device(ids, device)
        if device.type == "cuda":  # used by iterations on any stream
            torch.cuda.current_stream(device).synchronize()
        return pool, labels, cell_ids

    def _cells(self, slots: np.ndarray) -> RaggedCells:
        """Return cells of the bank as `RaggedCells`, as from a stream, for work that the single launch cannot do."""
        bank = self.bank
        if self._sides is None:
            columns = (bank.pool.offset, bank.pool.height, bank.pool.width)
            offset, height, width = (column.cpu().numpy() for column in columns)
            self._sides = offset, height, width
        place = (column[slots] for column in self._sides)
        return pool_cells(bank.pool.pixels, bank.cell_ids[slots].astype(np.int64), *place)


class PlannedLoader(GroupedLoader):
    """Loader that returns several training steps at once as indices, for a step that makes its images itself.

    Args:
        loader: source of the steps, whose images one call makes on the device.
        group: number of steps per item; the last item has the remaining ones.
    """

    loader: BankLoader

    def images(self, index: torch.Tensor, positions: torch.Tensor, clock: torch.Tensor) -> torch.Tensor:
        """Return `BankLoader.images`."""
        return self.loader.images(index, positions, clock)

    def __iter__(self) -> Iterator[PlannedSteps]:  # type: ignore[override]
        return self.loader.plans(self.group)
