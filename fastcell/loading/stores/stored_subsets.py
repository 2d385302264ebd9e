"""The subsets of a data set as a data module keeps them: their cells, and the store of each."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from fastcell.dataset.class_balance import logit_shift, resolve_balance
from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.cell_labels import CellLabels
from fastcell.dataset.schema import SubsetName
from fastcell.dataset.views import SteadyManifest, View, ViewConfig, select
from fastcell.errors import ArgumentError
from fastcell.loading.decode_choice import choose_decoding, preferred_decoder
from fastcell.loading.decode_cpu import CellDecoder
from fastcell.loading.order import DEFAULT_SPAN
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.same_data import SavedPlacement, SharedData
from fastcell.loading.settings import (
    EVALUATION_BATCH,
    LoaderSettings,
    evaluation_batch,
    num_local_processes,
    settings_on,
)
from fastcell.loading.stores.decoder_timing import faster_decoder
from fastcell.loading.stores.opening import Store, Stores
from fastcell.loading.stores.placement import Placement, free_memory
from fastcell.loading.transforms import resolve_transform
from fastcell.remote.object_cache import ObjectCache

logger = logging.getLogger(__name__)


class StoredSubsets(pl.LightningDataModule):
    """Cells of the subsets of a data set, and the stores from which loaders take them.

    Stores are opened at the first request, that of training before that of validation, under the trainer of the module.

    Attributes:
        path: folder or address of the data set.
        info: its description.
        classes: names in the order of the model's outputs.
        preprocessing: preparation of the images.
        batch_size: cells per training step, over all processes.
        predict_split: subset to classify; None for every cell.
        seed: seed of order, augmentation and subsample.
    """

    path: str
    info: DatasetInfo
    classes: list[str]
    preprocessing: Preprocessing
    batch_size: int
    predict_split: SubsetName | None
    seed: int
    _given: dict[str, Any]
    _train: ViewConfig
    _cache: ObjectCache | None
    _shared: SharedData
    _manifest: SteadyManifest | None = None
    _corrupt_cells: CorruptCells | None = None
    _stores: Stores | None = None
    _timed_decoder: str | None = None
    _valid_is_optional = False

    def __init__(self) -> None:
        super().__init__()
        self._resolved: dict[str, Any] = {}
        self._views: dict[str, View | None] = {}
        self._opened: dict[str, Store] = {}

    @property
    def eval_batch_size(self) -> int:
        """Cells per step and process outside training, on the device of the trainer if there is one."""
        given: int | None = self._given["eval_batch_size"]
        if given is not None:
            return given
        is_small = getattr(getattr(self.trainer, "lightning_module", None), "has_small_network", False)
        device = self.loader_settings(self.trainer).device
        return evaluation_batch(device, self.preprocessing.image_size) if is_small else EVALUATION_BATCH

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def manifest(self) -> SteadyManifest:
        """Manifest of the data set, opened at the first access; one fit and its scores use the same verdicts."""
        if self._manifest is None:
            self._manifest = SteadyManifest.of(Manifest.open(self.path, self._cache))
        return self._manifest

    def use_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest by another one of the same data set, for example with additional splits."""
        self._let_go()
        self._manifest = SteadyManifest.of(manifest)
        self._corrupt_cells, self._shared.placed, self._timed_decoder = None, None, None
        self._shared.forget_cells()

    @property
    def corrupt_cells(self) -> CorruptCells:
        """Corrupt cells found by this process."""
        if self._corrupt_cells is None:
            self._corrupt_cells = CorruptCells(self.manifest, self._given["on_bad_cell"])
        return self._corrupt_cells

    def gather_corrupt_cells(self) -> dict[int, str]:
        """Return the reasons of corrupt cells over all ranks, by cell_id; every rank must call it."""
        if self._rank()[1] == 1:
            return self.corrupt_cells.reasons
        found: list[Any] = [None] * self._rank()[1]
        torch.distributed.all_gather_object(found, self.corrupt_cells.reasons)
        return {cell_id: reason for part in reversed(found) for cell_id, reason in part.items()}

    @property
    def class_weights(self) -> np.ndarray | None:
        """Loss weights of the classes in the train subset, (K,) float32; None unless ``balance="weights"``."""
        return None if self._train.balance != "weights" else select(self.manifest, self._train).class_weights

    @property
    def emphasis(self) -> np.ndarray | None:
        """Repeats or loss weight of a training cell of each class, (K,) float32; None if all cells count equally."""
        view = self.view("train")
        return None if view is None else view.emphasis()

    @property
    def train_counts(self) -> np.ndarray | None:
        """Training cells of each class, (K,) int64, repeats not counted; None before `setup`."""
        view = self.view("train")
        return None if view is None else view.cell_counts()

    @property
    def logit_shift(self) -> np.ndarray | None:
        """Shift of the logits in the training loss, (K,) float32, if ``balance="auto"`` repeats cells; else None."""
        repeats = self.emphasis if self._train.balance == "auto" else None
        return None if repeats is None else logit_shift(repeats)

    @property
    def resolved(self) -> dict[str, Any]:
        """Chosen store, transform, decoder and threads of training on this machine; empty before training."""
        return dict(self._resolved)

    def view(self, part: str) -> View | None:
        """Return the cells of a subset: train, valid, test or predict; None if training has no valid subset."""
        if part not in self._views:
            self._views[part] = self._select(part)
        return self._views[part]

    def _select(self, part: str) -> View | None:
        split_name, quality = self._train.split_name, self._train.quality
        if part == "predict":
            return select(self.manifest, ViewConfig(self.predict_split, split_name, quality=False))
        if part == "train":
            view = select(self.manifest, self._train)
            if np.count_nonzero(view.class_counts()) < 2:
                raise ArgumentError(
                    f"{self.path} must have labelled cells of at least two classes in the train subset of split "
                    f"{split_name!r}, got {[self.info.classes[i] for i in np.flatnonzero(view.class_counts())]}. "
                    f"`fastcell info {self.path}` lists the classes of each subset."
                )
            return view
        if part == "valid" and self._valid_is_optional:
            return self._labelled(part)
        return select(self.manifest, ViewConfig(part, split_name, quality=quality, labelled=True))

    def _labelled(self, part: str) -> View | None:
        """Return the labelled cells of a subset; None if valid or test has none."""
        if part == "train":
            return self.view(part)
        config = ViewConfig(part, self._train.split_name, quality=self._train.quality, labelled=True)
        try:
            return select(self.manifest, config)
        except ArgumentError:
            return None

    def _labels(self) -> CellLabels:
        """Return the class number of every cell of the manifest; -1 without a label."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        table = np.array([numbers.get(name, -1) for name in self.info.classes] + [-1], dtype=np.int64)
        return CellLabels(self.manifest.class_codes, table)

    def _let_go(self) -> None:
        self._views.clear()
        self._close_stores()

    def _close_stores(self) -> None:
        self._opened.clear()
        if self._stores is not None:
            self._stores.close()
        self._stores = None

    def _store(self, part: str) -> Store:
        """Return the store of ``train`` or ``valid``. Training chooses first, and logs its choice."""
        if part in self._opened:
            return self._opened[part]
        view = self.view(part)
        assert view is not None
        if self._stores is None:
            gib, config = self._given["bank_gib"], self._config()
            limit = None if gib is None else int(gib * 2**30)
            self._stores = Stores(
                self._given["store"],
                free_memory(config.device, limit, num_local_processes(self.trainer)),
                config,
                self.preprocessing.depth,
                *self._rank(),
                self.corrupt_cells,
            )
        if part == "train":
            span = self._given["initial_fill"] or DEFAULT_SPAN
            store = self._stores.open_training(view, self.batch_size, span, self._shared.before)
            logger.info("%s", store.placement.reason)
            placed = store.placement
            self._shared.placed = SavedPlacement(placed.store, placed.num_parts, placed.pool_bytes, self._rank()[1])
            self._resolved = self._resolve(view, placed)
        else:
            self._store("train")
            share = evaluation_share(len(view), self.eval_batch_size, *self._rank())
            store = self._stores.open_evaluation(view, share)
        self._opened[part] = store
        return store

    def _resolve(self, view: View, placement: Placement) -> dict[str, Any]:
        config, depth = self._config(), self.preprocessing.depth
        decoder = preferred_decoder(config.decoder, config.transform)
        cells = CellDecoder(self.manifest, depth)
        train = self._train
        balance = resolve_balance(train.balance, train.balance_cap, view.cell_counts())[0]
        return {
            "balance": balance,
            "store": placement.store,
            "memory": placement.memory,
            "num_parts": placement.num_parts,
            "transform": resolve_transform(config.transform, self.preprocessing, config.device_id),
            "decoder": choose_decoding(decoder, self.manifest, view.parts(), cells, config.device_id),
            "threads": config.threads,
        }

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def loader_settings(self, trainer: pl.Trainer | None) -> LoaderSettings:
        """Return the settings of the loaders under a trainer; on the CPU without one."""
        return settings_on(trainer, self.seed, self._given)

    def _config(self) -> LoaderSettings:
        config = self.loader_settings(self.trainer)
        return replace(config, decoder=self._decoder(config)) if config.decoder == "auto" else config

    def _decoder(self, config: LoaderSettings) -> str:
        """Return the decoder for ``auto``; on a GPU rank 0 times both once, and says which it takes."""
        wanted = preferred_decoder("auto", config.transform)
        if wanted != "auto" or config.device_id is None:
            return wanted
        if self._timed_decoder is None:
            cells, rows = CellDecoder(self.manifest, self.preprocessing.depth), np.arange(len(self.manifest))
            if choose_decoding("auto", self.manifest, rows, cells, config.device_id) != "dali":
                return "threads"
            chosen = ""
            if self._rank()[0] == 0:
                timing = faster_decoder(self.manifest, self.batch_size, config.threads, config.device)
                logger.info("%s", timing.describe())
                chosen = timing.choice
            trainer = self.trainer
            self._timed_decoder = chosen if trainer is None else trainer.strategy.broadcast(chosen)
        return self._timed_decoder
