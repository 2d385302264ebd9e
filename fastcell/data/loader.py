"""Batches of a view: stage 1, stage 2 and the manifest's columns together, made ahead in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from fastcell.data.background import Background
from fastcell.data.batch import Batch
from fastcell.data.preprocessing import Preprocessing
from fastcell.data.ranks import Share
from fastcell.data.stream import open_reader
from fastcell.data.transforms import Geometry, make_transform
from fastcell.data.views import View
from fastcell.ops.augmentation import Augmentation

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class StreamConfig:
    """How a loader works; what it gives does not depend on it, but for `seed`, `initial_fill` and rounding.

    Attributes:
        seed: of order and augmentation.
        transform: ``auto``, ``fused`` or ``dali`` (`fastcell.data.transforms`).
        dtype: of the images.
        device: that the batches are on.
        threads: of decoder and transform, >= 1.
        initial_fill: cells in the shuffle buffer; 0 for the default of `fastcell.data.stream`.
        mmap: map the tars into memory.
        depth: batches made ahead.
    """

    seed: int = 0
    transform: str = "auto"
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU
    threads: int = 1
    initial_fill: int = 0
    mmap: bool = False
    depth: int = 2


class CellLoader:
    """Iterable of `Batch`, `share.steps` of them, as often as asked for; every iteration starts afresh.

    Args:
        view: which cells.
        share: this rank's part and the size of its batches.
        preprocessing: size, fit, normalisation.
        config: how it works.
        shuffle: another order in every epoch; else the stored order.
        augmentation: None for none.
        labels: (N,) int64 label of every row of the manifest; None takes the manifest's own.
        current_epoch: asked for the epoch when an iteration starts; None counts on `set_epoch`.

    Raises:
        ArgumentError, DataError: as `fastcell.data.stream.CellReader` and `fastcell.data.transforms.make_transform`.
    """

    def __init__(
        self,
        view: View,
        share: Share,
        preprocessing: Preprocessing,
        config: StreamConfig = StreamConfig(),
        *,
        shuffle: bool = False,
        augmentation: Augmentation | None = None,
        labels: np.ndarray | None = None,
        current_epoch: Callable[[], int] | None = None,
    ) -> None:
        self.view, self.share, self.config = view, share, config
        self.batch_size = share.batch
        self._labels = view.manifest.labels if labels is None else labels
        self._current_epoch = current_epoch
        self._epoch = 0
        device_id = config.device.index or 0 if config.device.type == "cuda" else None
        self._make_transform = partial(
            make_transform,
            config.transform,
            Geometry(view.manifest, preprocessing, augmentation, config.seed),
            batch=share.batch,
            dtype=config.dtype,
            threads=config.threads,
            device_id=device_id,
            rank=share.rank,
        )
        self._make_transform(epoch=0)  # wrong arguments show here, not in the thread
        self._reader = open_reader(
            view,
            share,
            shuffle=shuffle,
            seed=config.seed,
            initial_fill=config.initial_fill,
            mmap=config.mmap,
            threads=config.threads,
            device_id=device_id,
        )

    def __len__(self) -> int:
        return self.share.steps

    def set_epoch(self, epoch: int) -> None:
        """Number of the epoch whose order the next iteration takes, where no trainer tells it."""
        self._epoch = epoch

    def __iter__(self) -> Background[Batch]:
        epoch = self._epoch if self._current_epoch is None else self._current_epoch()
        stream = torch.cuda.current_stream(self.config.device) if self.config.device.type == "cuda" else None
        return Background(lambda: self._batches(epoch, stream), self.config.depth)

    def _batches(self, epoch: int, stream: torch.cuda.Stream | None) -> Iterator[Batch]:
        """Runs in the background thread; work for a GPU goes to the stream that was current where iteration began."""
        transform = self._make_transform(epoch=epoch)
        with torch.cuda.stream(stream):  # None: does nothing
            for step, cells in enumerate(self._reader.epoch(epoch)):
                images = transform(cells, self.share.positions(step))
                weight = np.zeros(self.share.batch, np.float32)
                weight[: self.share.num_real(step)] = 1
                ids = cells.cell_ids
                yield Batch(images, *(self._to_device(column) for column in (self._labels[ids], ids, weight)))

    def _to_device(self, column: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(column)
        if self.config.device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self.config.device, non_blocking=True)
