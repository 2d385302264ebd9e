"""The parts of a run that `fastcell bench` times: endless iterators that yield the number of cells of each step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.dataset.views import View, ViewConfig, select
from fastcell.errors import invalid
from fastcell.inference.backend_torch import TorchBackend
from fastcell.loading.bank_loader import BankLoader
from fastcell.loading.batch import Batch
from fastcell.loading.loader import BatchLoader, CellLoader
from fastcell.loading.order import BankOrder
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.bank import CellBank
from fastcell.loading.stores.stream import CellReader
from fastcell.models.lightning_module import CellModule
from fastcell.ops.augmentation import Augmentation
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_block_shard
from fastcell.runs.checkpoint import load_classifier
from fastcell.storage.staging import staging
from fastcell.system import resources
from fastcell.training.fit import build_model
from fastcell.training.recipe import Recipe, read_recipe

_BLOCK_CELLS = 4096  # cells of the sample that are repacked into blocks
_AT_ONCE = 1 << 22


class Part(NamedTuple):
    """Description of a timed part, and the function that returns its iterator of steps."""

    what: str
    make: Callable[[], Iterator[int]]


@dataclass(frozen=True)
class Parts:
    """All timed parts of a benchmark, with a description of the setup.

    Attributes:
        steps: Parts by name, in the order of a run.
        text: Description of data, machine and network for the user.
        where: Short description of the machine.
        settings: The content of `text` as values.
        synchronize: Function that waits until the device has finished.
    """

    steps: dict[str, Part]
    text: str
    where: str
    settings: dict[str, Any]
    synchronize: Callable[[], None]


def make_parts(
    manifest: Manifest,
    preset: str,
    checkpoint: str | None,
    num_cells: int,
    threads: int,
    scratch: Path,
    trust: Sequence[str] = (),
) -> Parts:
    """Set up all timed parts on a sample of a data set.

    Args:
        manifest: Manifest of the data set; labels are not needed.
        preset: Preset that gives network, image size, batch size and augmentation.
        trust: Packages whose code the checkpoint may import.
        checkpoint: Checkpoint that gives network and image size instead of the preset; None for a new network.
        num_cells: Minimum size of the sample, which consists of the first whole shards that hold this number of cells.
        threads: Number of threads for decoding and transforms; 0 for one per CPU.
        scratch: Folder for a part of the sample repacked into blocks.

    Raises:
        ArgumentError: The preset does not exist, or a number breaks its rule.
        DataError: `checkpoint` is not a checkpoint.
    """
    if threads < 0:
        raise invalid("--threads", "0 or more", threads, "0 takes one for each CPU")
    recipe = read_recipe(preset)
    device = torch.device("cuda", 0) if resources.has_gpu() else torch.device("cpu")
    torch.set_num_threads(resources.num_cpus())
    sample = _sample(manifest, num_cells)
    model, preprocessing = _network(manifest, recipe, checkpoint, trust)
    model = model.to(device)
    settings: dict[str, Any] = {
        "data": manifest.info.name,
        "cells": len(sample),
        "layout": manifest.info.layout,
        "network": model.network_name,
        "size": preprocessing.image_size,
        "batch": recipe.batch_size,
        "threads": threads or resources.num_cpus(),
    }
    config = LoaderSettings(
        transform="auto",
        dtype=torch.float32 if device.type == "cpu" else _half(),
        device=device,
        threads=settings["threads"],
    )
    rig = _Rig(sample, preprocessing, config, recipe.augmentation, settings["batch"])
    where = f"{resources.num_cpus()} cores" if device.type == "cpu" else torch.cuda.get_device_name(device)
    text = (
        f"{len(sample):,} cells of {manifest.place}{' (synthetic)' * manifest.info.synthetic}, "
        f"layout {manifest.info.layout}; {where}\n"
        f"{settings['network']} on {settings['size']} x {settings['size']} pixels, batch {settings['batch']}"
    )
    steps = {
        "read": Part("stored bytes of whole shards, from the page cache", rig.read),
        "decoded": Part("read, hashed in the first epoch, decoded", rig.decode),
        "batches, stream": Part("decoded, resized, normalised", rig.stream),
    }
    if manifest.info.layout == "cell":
        blocks = _as_blocks(sample, scratch)
        steps["batches, stream of blocks"] = Part(
            "the same of a sample packed with --layout block", rig.other(blocks).stream
        )
    return Parts(
        {
            **steps,
            "batches, bank": Part("from memory, augmented", rig.bank),
            "classify, network alone": Part("one batch again and again", lambda: rig.classify(model, False)),
            "classify, whole way": Part("stream and network", lambda: rig.classify(model, True)),
            "train, network alone": Part("loss, backward, optimizer; one batch", lambda: rig.train(model, False)),
            "train, from the bank": Part("bank and training step", lambda: rig.train(model, True)),
        },
        text,
        where,
        settings,
        torch.cuda.synchronize if device.type == "cuda" else lambda: None,
    )


class _Rig:
    """Loaders of one sample, and the work that is done on their batches."""

    def __init__(
        self, view: View, preprocessing: Preprocessing, config: LoaderSettings, augmentation: Augmentation, batch: int
    ) -> None:
        self.view, self.preprocessing, self.config = view, preprocessing, config
        self.augmentation, self.batch = augmentation, min(batch, len(view))
        self._labels = np.maximum(view.manifest.labels, 0)  # label does not change a step's cost
        self._reader: CellReader | None = None
        self._stream: BatchLoader | None = None
        self._bank: BatchLoader | None = None

    def other(self, view: View) -> _Rig:
        """Return a rig with the same settings for other cells."""
        return _Rig(view, self.preprocessing, self.config, self.augmentation, self.batch)

    def read(self) -> Iterator[int]:
        """Read whole shards one after another; yield the number of sampled cells of each."""
        manifest, buffer = self.view.manifest, bytearray(_AT_ONCE)
        numbers, counts = np.unique(manifest.shard_index[self.view.rows], return_counts=True)
        for number, count in itertools.cycle(zip(numbers.tolist(), counts.tolist(), strict=True)):
            with open(manifest.shard_path(number), "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
            yield count

    def decode(self) -> Iterator[int]:
        """Decode cells to ragged arrays, as for a memory bank; yield the number of cells of each piece."""
        if self._reader is None:
            share = evaluation_share(len(self.view), self.batch)
            options: dict[str, Any] = {"threads": self.config.threads, "device_id": self.config.device_id}
            corrupt_cells = CorruptCells(self.view.manifest, "replace")
            self._reader = CellReader(
                self.view, share, depth=self.preprocessing.depth, corrupt_cells=corrupt_cells, **options
            )
        while True:
            yield from (len(cells) for cells in self._reader.in_order())

    def stream(self) -> Iterator[int]:
        """Make batches without augmentation, in stored order, as `predict` does; yield the size of each."""
        for batch in self._streamed():
            yield len(batch.labels)

    def bank(self) -> Iterator[int]:
        """Make augmented batches from the bank; yield the size of each."""
        for batch in self._banked():
            yield len(batch.labels)

    def classify(self, model: CellModule, loaded: bool) -> Iterator[int]:
        """Classify batches of the stream, or one batch repeatedly if `loaded` is False; yield the size of each."""
        backend = TorchBackend.of_module(model.eval(), _half() if self.config.device.type == "cuda" else None)
        batches = self._streamed() if loaded else itertools.repeat(next(self._streamed()))
        for batch in batches:
            probabilities = backend.probabilities(batch.images)
            if loaded:
                backend.to_host(probabilities)  # the table of predictions needs them on the CPU
            yield len(batch.labels)

    def train(self, model: CellModule, loaded: bool) -> Iterator[int]:
        """Train on batches of the bank, or on one batch repeatedly if `loaded` is False; yield the size of each."""
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        batches = self._banked() if loaded else itertools.repeat(next(self._banked()))
        for batch in batches:
            optimizer.zero_grad()
            with self._autocast():
                loss = model._loss(batch)
            loss.backward()
            optimizer.step()
            yield len(batch.labels)

    def _streamed(self) -> Iterator[Batch]:
        if self._stream is None:
            share = evaluation_share(len(self.view), self.batch)
            corrupt_cells = CorruptCells(self.view.manifest, "replace")
            options: dict[str, Any] = {"labels": self._labels, "corrupt_cells": corrupt_cells}
            self._stream = CellLoader(self.view, share, self.preprocessing, self.config, **options)
        return _epochs(self._stream)

    def _banked(self) -> Iterator[Batch]:
        if self._bank is None:
            view, config = self.view, self.config
            order = BankOrder(len(view), self.batch, 0, 1, len(view), 0, 1)
            bank = CellBank(
                view,
                np.array([0, len(view)]),
                memory="gpu" if config.device.type == "cuda" else "host",
                device=config.device,
                depth=self.preprocessing.depth,
                decode_on_gpu=config.device.type == "cuda",
                threads=config.threads,
                corrupt_cells=CorruptCells(view.manifest, "replace"),
            )
            bank.fill()
            options: dict[str, Any] = {"augmentation": self.augmentation, "labels": self._labels}
            self._bank = BankLoader(bank, view, order, self.preprocessing, config, **options)
        return _epochs(self._bank)

    def _autocast(self) -> torch.autocast:
        on_gpu = self.config.device.type == "cuda"
        return torch.autocast(self.config.device.type, dtype=_half() if on_gpu else None, enabled=on_gpu)


def _epochs(loader: BatchLoader) -> Iterator[Batch]:
    for epoch in itertools.count(1):
        loader.set_epoch(epoch)
        yield from loader


def _half() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _sample(manifest: Manifest, num_cells: int) -> View:
    """Return the rows of the first whole shards that hold at least `num_cells` cells, in stored order."""
    view = select(manifest, ViewConfig(quality=False))
    shard = manifest.shard_index[view.rows]
    last = shard[min(num_cells, len(view)) - 1]
    return View(manifest, view.rows[shard <= last])


def _network(
    manifest: Manifest, recipe: Recipe, checkpoint: str | None, trust: Sequence[str]
) -> tuple[CellModule, Preprocessing]:
    if checkpoint is not None:
        model = load_classifier(checkpoint, trust)
        return model, Preprocessing.from_dict(model.preprocessing)
    window = manifest.info.window
    preprocessing = replace(recipe.preprocessing, window=None if window is None else (window[0], window[1]))
    classes = manifest.info.classes if len(manifest.info.classes) > 1 else ["A", "B"]
    return build_model(recipe, classes, preprocessing), preprocessing


def _as_blocks(view: View, scratch: Path) -> View:
    """Repack the first cells of a view as a data set of blocks in `scratch`, and return a view of it."""
    rows, out = view.rows[:_BLOCK_CELLS], scratch / "blocks"
    pixels = (np.array(cell) for cell in read_cells(view.manifest, rows, verify=False))
    records = [Record(f"{number:06d}", cell, "raw") for number, cell in enumerate(pixels)]
    blocks = [("", records[begin : begin + 256]) for begin in range(0, len(records), 256)]
    with staging(out) as folder:
        result = write_block_shard(folder / "shard-000000.tar", blocks)
        made = finish_dataset(folder, out, [result], DatasetInfo("blocks", [], "block"))
    return View(made, np.arange(len(made)))
