"""Loaders: batches of a view, made from cells, transform and manifest columns, and prefetched in a thread.

On a GPU the batches are made on a separate stream, in parallel with the current training step. The stream that receives
a batch waits for it; the CPU does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.rows.cell_labels import CellLabels
from fastcell.dataset.views import View
from fastcell.loading.batch import Batch, PlannedSteps
from fastcell.loading.batch_augmentation import BatchAugmentation
from fastcell.loading.decode_choice import preferred_decoder
from fastcell.loading.geometry import Geometry
from fastcell.loading.prefetch import Prefetcher
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import Share
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.stream import CellReader
from fastcell.loading.transforms import make_transform, to_device
from fastcell.ops.augmentation import Augmentation

Item = TypeVar("Item", Batch, PlannedSteps)


class EpochCounter:
    """Count epochs without a trainer: each iteration is the next epoch, from its first step.

    Attributes:
        epoch: epoch of the next iteration.
    """

    def __init__(self) -> None:
        self.epoch = 0

    def __call__(self) -> tuple[int, int]:
        """Return the epoch and the first step of a new iteration, and advance the epoch by one."""
        self.epoch += 1
        return self.epoch - 1, 0


class BatchLoader(ABC):
    """Iterable of `Batch`. Every iteration starts afresh and gives the same number of batches.

    Without a trainer each iteration is the next epoch, with its own order and augmentation.

    Attributes:
        batch_size: cells of a batch on this rank.
        augment: user-defined function, applied to each batch when it is consumed; None for no augmentation.
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

    def num_cells(self, step: int) -> int | None:
        """Return the number of cells in batch `step` of all ranks, without padding; None if it is not known."""
        return self.global_weight(step)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; with a trainer, which counts the epochs, the call has no effect."""
        if isinstance(self._where, EpochCounter):
            self._where.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return Lazy(self._start)

    def _start(self) -> Iterator[Batch]:
        epoch, first = self._where()

        def make() -> Iterator[Batch]:
            batches = self._batches(epoch, first)
            return batches if self.pads else _cells_that_count(batches)

        batches = self.prefetched(make)
        return batches if self.augment is None else self.augment(batches, epoch, first)

    def prefetched(self, make: Callable[[], Iterator[Item]]) -> Iterator[Item]:
        """Return the items of ``make()``; a thread makes them ahead of their use, on a GPU on a separate stream."""
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


class Lazy(Iterator[Item]):
    """Iterator that starts on the first request: Lightning drops some iterators and uses others much later."""

    def __init__(self, start: Callable[[], Iterator[Item]]) -> None:
        self._start: Callable[[], Iterator[Item]] | None = start
        self._batches: Iterator[Item] = iter(())

    def __next__(self) -> Item:
        if self._start is not None:
            start, self._start = self._start, None
            self._batches = start()
        return next(self._batches)


class _FromStream(Iterator[Item]):
    """Items that a thread makes on its own stream and hands over to the current stream of the consumer."""

    def __init__(self, make: Callable[[], Iterator[Item]], depth: int, stream: torch.cuda.Stream) -> None:
        self._device = stream.device
        stream.wait_stream(torch.cuda.current_stream(self._device))
        self._made: Prefetcher[tuple[Item, torch.cuda.Event]] = Prefetcher(lambda: _on_stream(make, stream), depth)

    def __next__(self) -> Item:
        batch, event = next(self._made)
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(event)
        for tensor in batch:
            tensor.record_stream(stream)  # otherwise the thread's stream might overwrite it while it is in use
        return batch


def _on_stream(
    make: Callable[[], Iterator[Item]], stream: torch.cuda.Stream
) -> Iterator[tuple[Item, torch.cuda.Event]]:
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

    def num_cells(self, item: int) -> int | None:
        """Return the number of cells in the batches of an item over all ranks, without padding; None if not known."""
        steps = range(item * self.group, min((item + 1) * self.group, self.num_steps))
        numbers = [self.loader.num_cells(step) for step in steps]
        return None if None in numbers else sum(number for number in numbers if number is not None)

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
        labels: CellLabels | np.ndarray | None = None,
        where: Callable[[], tuple[int, int]] | None = None,
        reader: CellReader | None = None,
        corrupt_cells: CorruptCells | None = None,
    ) -> None:
        super().__init__(config, where)
        self.view, self.share, self._shuffle = view, share, shuffle
        self.batch_size = share.batch
        self._labels = view.manifest.cell_labels if labels is None else labels
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

    def num_cells(self, step: int) -> int:
        count = self.share.num_real_of_all if self._shuffles else self.share.num_real_of_chunks
        return count(step, len(self.view))

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
