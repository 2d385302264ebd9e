"""Loaders: batches of a view, made from cells, transform and manifest columns, and prefetched in a thread.

On a GPU the batches are made on a separate stream, in parallel with the current training step. The stream that receives
a batch waits for it; the CPU does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np
import torch

from fastcell.dataset.corrupt_cells import CorruptCells, stand_in
from fastcell.dataset.views import View
from fastcell.loading.batch import Batch
from fastcell.loading.batch_augmentation import BatchAugmentation
from fastcell.loading.decode_choice import preferred_decoder
from fastcell.loading.geometry import Geometry
from fastcell.loading.order import BankOrder, StoredOrder
from fastcell.loading.prefetch import Prefetcher
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.ranks import Share
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.bank import CellBank
from fastcell.loading.stores.pixel_pool import pool_cells
from fastcell.loading.stores.stream import CellReader
from fastcell.loading.transforms import make_transform, resolve_transform, to_device
from fastcell.ops.augmentation import Augmentation
from fastcell.ops.transform import CellPool, make_clock

# Number of steps whose indices are copied to the device together: few copies, little memory.
_STEPS_AT_ONCE = 256


class EpochCounter:
    """Count epochs without a trainer: each iteration is the next epoch, from its first step.

    Attributes:
        epoch: epoch of the next iteration.
    """

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch

    def __call__(self) -> tuple[int, int]:
        """Return the epoch and the first step of a new iteration, and advance the epoch by one."""
        self.epoch += 1
        return self.epoch - 1, 0


class BatchLoader(ABC):
    """Iterable of `Batch`. Every iteration starts afresh and gives the same number of batches.

    Without a trainer each iteration is the next epoch, with its own order and augmentation.

    Attributes:
        batch_size: cells of a batch on this rank.
        augment: user-defined function, applied to each batch when it is consumed; None for none.
        pads: whether a batch has its full size, with padding of weight 0; else it holds only the cells that count.
    """

    batch_size: int
    pads = True

    def __init__(self, config: LoaderSettings, where: Callable[[], tuple[int, int]] | None) -> None:
        self.config = config
        self._where = where or EpochCounter()
        self._stream: torch.cuda.Stream | None = None
        self.augment: BatchAugmentation | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, starting with step `first`.

        Runs in the prefetching thread; GPU work goes to the current stream of that thread.
        """

    def global_weight(self, step: int) -> int | None:
        """Return the number of cells that a training batch should have, over all ranks, without communication.

        It includes corrupt cells, because only the rank that reads a cell finds it corrupt. None if this rule does not
        apply, as in evaluation.
        """
        return None

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; with a trainer, which counts the epochs, the call has no effect."""
        if isinstance(self._where, EpochCounter):
            self._where.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return _Lazy(self._start)

    def _start(self) -> Iterator[Batch]:
        epoch, first = self._where()
        batches = self._prefetched(epoch, first)
        return batches if self.augment is None else self.augment(batches, epoch, first)

    def _prefetched(self, epoch: int, first: int) -> Iterator[Batch]:
        def make() -> Iterator[Batch]:
            batches = self._batches(epoch, first)
            return batches if self.pads else _cells_that_count(batches)

        if self.config.device.type != "cuda":
            return Prefetcher(make, self.config.num_ahead)
        if self._stream is None:  # one stream for all iterations: torch keeps freed memory per stream
            self._stream = torch.cuda.Stream(self.config.device)
        return _FromStream(make, self.config.num_ahead, self._stream)


def _cells_that_count(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield batches without their cells of weight 0; batches without any other cell are left out."""
    for batch in batches:
        counts = batch.weight > 0
        if counts.all():
            yield batch
        elif counts.any():
            yield Batch(*(column[counts] for column in batch))


class _Lazy(Iterator[Batch]):
    """Iterator that starts on the first request: Lightning drops some iterators and uses others much later."""

    def __init__(self, start: Callable[[], Iterator[Batch]]) -> None:
        self._start: Callable[[], Iterator[Batch]] | None = start
        self._batches: Iterator[Batch] = iter(())

    def __next__(self) -> Batch:
        if self._start is not None:
            start, self._start = self._start, None
            self._batches = start()
        return next(self._batches)


class _FromStream(Iterator[Batch]):
    """Batches that a thread makes on its own stream and hands over to the current stream of the consumer."""

    def __init__(self, make: Callable[[], Iterator[Batch]], depth: int, stream: torch.cuda.Stream) -> None:
        self._device = stream.device
        stream.wait_stream(torch.cuda.current_stream(self._device))
        self._made = Prefetcher(lambda: _on_stream(make, stream), depth)

    def __next__(self) -> Batch:
        batch, event = next(self._made)
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(event)
        for tensor in batch:
            tensor.record_stream(stream)  # otherwise the thread's stream might overwrite it while it is in use
        return batch


def _on_stream(
    make: Callable[[], Iterator[Batch]], stream: torch.cuda.Stream
) -> Iterator[tuple[Batch, torch.cuda.Event]]:
    with torch.cuda.stream(stream):
        for batch in make():
            yield batch, stream.record_event()


class GroupedLoader:
    """Loader that returns several batches at once, for a `training_step` that makes several optimizer steps.

    Args:
        loader: source of the batches.
        group: number of batches per item; the last item has the remaining ones.
    """

    def __init__(self, loader: BatchLoader, group: int) -> None:
        self.loader, self.group = loader, group
        self.batch_size = loader.batch_size

    @property
    def num_steps(self) -> int:
        """Number of single batches in an epoch."""
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, like `BatchLoader.set_epoch`."""
        self.loader.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self.loader) // self.group)

    def global_weight(self, step: int) -> int | None:
        """Return `BatchLoader.global_weight` of a single batch."""
        return self.loader.global_weight(step)

    def __iter__(self) -> Iterator[tuple[Batch, ...]]:
        batches = iter(self.loader)
        while group := tuple(islice(batches, self.group)):
            yield group


class CellLoader(BatchLoader):
    """Batches of streamed cells, which are read and decoded in every epoch.

    Args:
        view: cells to load.
        share: part of the view for this rank and the size of its batches.
        preprocessing: size, fit and normalisation.
        config: settings of the loader.
        shuffle: use another order in every epoch; else the stored order.
        augmentation: random changes; None for no augmentation.
        labels: (N,) int64 label of every row of the manifest; None uses the labels of the manifest.
        where: called at the start of an iteration, returns epoch and first step; None for an `EpochCounter`.
        reader: source of the cells; None opens the shards of the view.
        corrupt_cells: collection that corrupt cells are added to; None ends the run at the first corrupt cell.

    Raises:
        ArgumentError: see `fastcell.loading.stores.stream.CellReader` and `fastcell.loading.transforms.make_transform`.
    """

    def __init__(
        self,
        view: View,
        share: Share,
        preprocessing: Preprocessing,
        config: LoaderSettings = LoaderSettings(),
        *,
        shuffle: bool = False,
        augmentation: Augmentation | None = None,
        labels: np.ndarray | None = None,
        where: Callable[[], tuple[int, int]] | None = None,
        reader: CellReader | None = None,
        corrupt_cells: CorruptCells | None = None,
    ) -> None:
        super().__init__(config, where)
        self.view, self.share, self._shuffle = view, share, shuffle
        self.batch_size = share.batch
        self._labels = view.manifest.labels if labels is None else labels
        self._make_transform = partial(
            make_transform,
            config.transform,
            Geometry(view.manifest, preprocessing, augmentation, config.seed),
            batch=share.batch,
            dtype=config.dtype,
            threads=config.threads,
            device_id=config.device_id,
            rank=share.rank,
        )
        self._shuffles = shuffle
        self._make_transform(epoch=0)  # wrong arguments raise here, not in the thread
        self.reader = reader or CellReader(
            view,
            share,
            shuffle=shuffle,
            seed=config.seed,
            initial_fill=config.initial_fill,
            corrupt_cells=corrupt_cells,
            threads=config.threads,
            device_id=config.device_id,
            depth=preprocessing.depth,
            decoder=preferred_decoder(config.decoder, config.transform),
        )

    def __len__(self) -> int:
        return self.share.steps

    def global_weight(self, step: int) -> int | None:
        return self.share.num_real_of_all(step, len(self.view)) if self._shuffles else None

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        transform, device = self._make_transform(epoch=epoch), self.config.device
        try:
            for step, cells in enumerate(self.reader.epoch(epoch, first), first):
                images = transform(cells, self.share.positions(step))
                weight = np.zeros(self.share.batch, np.float32)
                weight[: self.share.num_real(step)] = 1
                if cells.good is not None:
                    weight *= cells.good
                ids = cells.cell_ids
                labels = self._labels[ids]
                if not self._shuffle:  # in evaluation, no score may count a stand-in
                    labels = np.where(weight > 0, labels, -1)
                yield Batch(images, *(to_device(column, device) for column in (labels, ids, weight)))
        finally:
            if device.type == "cuda":  # memory lent by DALI is freed with the transform
                torch.cuda.current_stream(device).synchronize()


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
        labels: np.ndarray | None = None,
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
        self._labels = view.manifest.labels if labels is None else labels
        self._columns: tuple[CellPool, torch.Tensor, torch.Tensor] | None = None
        self._sides: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.order.steps

    def global_weight(self, step: int) -> int | None:
        return self.order.num_real_of_all(step) if isinstance(self.order, BankOrder) else None

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        device = self.config.device
        if self._columns is None:
            self._columns = self._on_device()
        pool, labels_of, ids_of = self._columns
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
                    which = (pool, place, position[step], clock)
                    images = self._geometry.transform(*which, self.config.dtype, self.config.threads)
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
