"""Choose and open the cell store of each subset of a run. Subsets that are opened first get memory first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import View
from fastcell.errors import FastcellError
from fastcell.loading.decode_choice import preferred_decoder
from fastcell.loading.order import NUM_PARTS, BankOrder, fill_order
from fastcell.loading.ranks import Share
from fastcell.loading.same_data import SavedPlacement, restore_placement
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.bank import CellBank
from fastcell.loading.stores.placement import Budget, Placement, is_out_of_memory, place

logger = logging.getLogger(__name__)


@dataclass
class Store:
    """Store of the cells of one subset.

    Attributes:
        placement: where the cells are kept, and why.
        bank: bank that holds all cells, or None.
        order: order of training batches from the bank, or None.
    """

    placement: Placement
    bank: CellBank | None = None
    order: BankOrder | None = None

    def close(self) -> None:
        """Stop filling the bank, if there is one."""
        if self.bank is not None:
            self.bank.close()


class Stores:
    """The stores of one stage of a run on one rank.

    Args:
        kind: ``auto``, ``bank`` or ``stream`` (`fastcell.loading.stores.placement.place`).
        budget: memory that banks may use.
        config: settings of the loaders.
        depth: bits per grey level.
        rank: index of this process.
        num_ranks: number of processes.
        corrupt_cells: collection that corrupt cells are added to.
    """

    def __init__(
        self,
        kind: str,
        budget: Budget,
        config: LoaderSettings,
        depth: int,
        rank: int,
        num_ranks: int,
        corrupt_cells: CorruptCells | None = None,
    ) -> None:
        self.kind, self.config, self.depth = kind, config, depth
        self.rank, self.num_ranks, self._corrupt_cells = rank, num_ranks, corrupt_cells
        self._budget = budget
        self._opened: list[Store] = []

    def open_training(self, view: View, batch_size: int, span: int, before: SavedPlacement | None = None) -> Store:
        """Choose the store of the training cells, the same on every rank, and open it.

        Args:
            view: view over all ranks.
            batch_size: cells per batch over all ranks.
            span: number of rows that a bank's first epoch mixes.
            before: placement of the saved run whose batches to reproduce; None for a new run.

        Raises:
            ArgumentError: the batches cannot be divided among the ranks, or those of `before` cannot be reproduced.
        """
        kind = self.kind if before is None else "stream" if before.store == "stream" else "bank"
        num_cells, num_bytes = (0, 0) if kind == "stream" else self._total(view.manifest, view.different())
        left, num_ranks = self._left(), self.num_ranks
        rows, largest = np.empty(0, np.int64), num_bytes
        if kind != "stream" and num_bytes <= max(left.host_bytes, left.gpu_bytes or 0) * num_ranks:
            rows = fill_order(view, self.config.seed)
            largest = self._largest_part(view.manifest, rows, batch_size)
        while True:
            placement = place(kind, num_cells, num_bytes, largest, num_ranks, self._left())
            if before is not None:
                placement = restore_placement(placement, before, num_ranks)
            store = self._unless_memory_fails(placement, partial(self._open, placement, view, rows, batch_size, span))
            if store is not None:
                return self._keep(store)

    def _largest_part(self, manifest: Manifest, rows: np.ndarray, batch_size: int) -> int:
        """Return the largest size of the pixels on one rank if rows in fill order are cut into parts [bytes]."""
        num_ranks = self.num_ranks
        if len(rows) < NUM_PARTS or NUM_PARTS % num_ranks:
            return 1 << 62
        edges = BankOrder(len(rows), batch_size, 0, NUM_PARTS, 1, 0, num_ranks).part_edges()
        owned = np.split(rows, edges[:: NUM_PARTS // num_ranks][1:-1])
        return max(self._total(manifest, iter([_each_once(part)]))[1] for part in owned)

    def _total(self, manifest: Manifest, parts: Iterator[np.ndarray]) -> tuple[int, int]:
        """Return the number of cells, given some cell_ids at a time, and the size of their pixels [bytes]."""
        heights, widths = manifest.column("height"), manifest.column("width")
        num_cells = num_pixels = 0
        for cells in parts:
            num_cells += len(cells)
            num_pixels += int((heights[cells].astype(np.int64) * widths[cells]).sum())
        return num_cells, num_pixels * (self.depth // 8)

    def _open(self, placement: Placement, view: View, rows: np.ndarray, batch_size: int, span: int) -> Store:
        if placement.store == "stream":
            return Store(placement)
        seed = self.config.seed
        order = BankOrder(len(rows), batch_size, seed, placement.num_parts, span, self.rank, self.num_ranks)
        edges = order.part_edges()[order.parts.start : order.parts.stop + 1]
        bank = CellBank(View(view.manifest, rows[edges[0] : edges[-1]]), edges - edges[0], **self._options(placement))
        return Store(placement, bank, order)

    def _unless_memory_fails(self, placement: Placement, make: Callable[[], Store]) -> Store | None:
        """Return the result of `make`, or None if allocation failed on any rank.

        After a failure this memory counts as full, and the caller tries the next place.
        """
        store, failed = None, False
        try:
            store = make()
        except (MemoryError, RuntimeError, FastcellError) as error:
            if placement.store == "stream" or not is_out_of_memory(error):
                raise
            failed = True
        if _distributed():
            votes = torch.tensor(float(failed), device=self.config.device)
            torch.distributed.all_reduce(votes, op=torch.distributed.ReduceOp.MAX)
            failed = bool(votes)
        if not failed:
            return store
        if store is not None:
            store.close()
        logger.warning("no room for %s after all; trying the next place", placement.reason)
        self._budget = Budget(None, 0) if placement.memory == "host" else replace(self._budget, gpu_bytes=0)
        if placement.memory == "pinned":
            self._budget = Budget(0, 0)
        return None

    def open_evaluation(self, view: View, share: Share) -> Store:
        """Choose and open the store for this rank's cells in an evaluation that is repeated. The cells are in stored
        order.

        Args:
            view: view over all ranks.
            share: rows of the view for this rank.
        """
        first, last = (share.start, share.stop) if len(share) else (0, 1)
        kind = "auto" if self.kind == "bank" else self.kind  # a bank that does not fit is no user error here
        total = (0, 0) if kind == "stream" else self._total(view.manifest, map(_each_once, view.parts(first, last)))
        placement = place(kind, *total, 0, 1, self._left())
        if placement.store == "stream":
            return self._keep(Store(placement))
        rows = view.part(first, last)
        bank = CellBank(View(view.manifest, rows), np.array([0, len(rows)]), **self._options(placement))
        return self._keep(Store(placement, bank))

    def close(self) -> None:
        """Stop filling all stores."""
        for store in self._opened:
            store.close()

    def _keep(self, store: Store) -> Store:
        self._opened.append(store)
        self._budget = self._budget.less(store.placement)
        return store

    def _left(self) -> Budget:
        """Return the smallest remaining memory among the ranks."""
        budget = self._budget
        if not _distributed():
            return budget
        least = torch.tensor([budget.host_bytes, budget.gpu_bytes or 0], device=self.config.device)
        torch.distributed.all_reduce(least, op=torch.distributed.ReduceOp.MIN)
        host, gpu = least.tolist()
        return Budget(None if budget.gpu_bytes is None else gpu, host)

    def _options(self, placement: Placement) -> dict[str, Any]:
        return {
            "memory": placement.memory,
            "device": self.config.device,
            "depth": self.depth,
            "decode_on_gpu": self.config.device.type == "cuda",
            "decoder": preferred_decoder(self.config.decoder, self.config.transform),
            "threads": self.config.threads,
            "corrupt_cells": self._corrupt_cells,
        }


def _each_once(rows: np.ndarray) -> np.ndarray:
    """Return the rows of a view without repeats, which are adjacent; `np.unique` takes over 1 us per row."""
    return rows[np.diff(rows, prepend=-1) != 0]


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
