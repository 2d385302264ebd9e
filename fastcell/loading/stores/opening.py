"""Where the cells of a run are kept: chosen part by part, whichever comes first having the first choice of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.views import View
from fastcell.errors import FastcellError
from fastcell.loading.order import NUM_PARTS, BankOrder
from fastcell.loading.ranks import Share, training_share
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.bank import CellBank, fill_order
from fastcell.loading.stores.placement import SHARE_OF_FREE, Budget, Placement, SavedPlacement, place, restore_placement
from fastcell.loading.stores.rolling_bank import RollingReader
from fastcell.system.resources import available_memory

logger = logging.getLogger(__name__)


@dataclass
class Store:
    """What keeps the cells of one part.

    Attributes:
        placement: where, and why.
        bank: that all cells stay in, or None.
        order: of training batches out of the bank, or None.
        window: that the cells pass through, or None.
    """

    placement: Placement
    bank: CellBank | None = None
    order: BankOrder | None = None
    window: RollingReader | None = None

    @property
    def text(self) -> str:
        """One line for the user."""
        if self.window is None:
            return self.placement.reason
        return f"{self.placement.reason}; mixing {self.window.mixing():.2f} (1 is a uniform draw)"

    def close(self) -> None:
        """Stop what fills it."""
        if self.bank is not None:
            self.bank.close()
        if self.window is not None:
            self.window.close()


class Stores:
    """The stores of one stage of a run on one rank.

    Args:
        kind: ``auto``, ``bank`` or ``stream`` (`fastcell.loading.stores.placement.place`).
        limit_bytes: that banks may take; None for half of what is free.
        config: of the loaders.
        depth: bits of a grey level.
        rank: this process.
        num_ranks: how many there are.
        num_local: processes on this machine, which share its memory.
        losses: that lost cells are added to.
    """

    def __init__(
        self,
        kind: str,
        limit_bytes: int | None,
        config: LoaderSettings,
        depth: int,
        rank: int,
        num_ranks: int,
        num_local: int,
        losses: CorruptCells | None = None,
    ) -> None:
        self.kind, self.config, self.depth = kind, config, depth
        self.rank, self.num_ranks, self._losses = rank, num_ranks, losses
        self._budget = _free_memory(config.device, limit_bytes, num_local)
        self._opened: list[Store] = []

    def open_training(self, view: View, batch_size: int, window: int, before: SavedPlacement | None = None) -> Store:
        """Choose where the training cells go, the same on every rank, and open it.

        Args:
            view: over all ranks.
            batch_size: over all ranks.
            window: rows that a bank's first epoch mixes.
            before: of the run that goes on, whose batches are wanted; None for a new one.

        Raises:
            ArgumentError: the batches cannot be shared, or a rolling window is too small for them.
        """
        rows = fill_order(view, self.config.seed)
        size, num_ranks = self._sizes(view), self.num_ranks
        largest = 1 << 62
        if len(rows) >= NUM_PARTS and NUM_PARTS % num_ranks == 0:
            edges = BankOrder(len(rows), batch_size, 0, NUM_PARTS, 1, 0, num_ranks).part_edges()
            owned = np.split(rows, edges[:: NUM_PARTS // num_ranks][1:-1])
            largest = max(int(size[_each_once(part)].sum()) for part in owned)
        cells = _each_once(rows)
        kind = self.kind if before is None else "stream" if before.store == "stream" else "bank"
        while True:
            placement = place(kind, len(cells), int(size[cells].sum()), largest, num_ranks, self._left())
            if before is not None:
                placement = restore_placement(placement, before, num_ranks)
            store = self._unless_memory_fails(placement, partial(self._open, placement, view, rows, batch_size, window))
            if store is not None:
                return self._keep(store)

    def _open(self, placement: Placement, view: View, rows: np.ndarray, batch_size: int, window: int) -> Store:
        if placement.store == "stream":
            return Store(placement)
        options, seed = self._options(placement), self.config.seed
        if placement.store == "window":
            share = training_share(len(view), batch_size, self.rank, self.num_ranks)
            reader = RollingReader(view, share, window_bytes=placement.pool_bytes, seed=seed, **options)
            return Store(placement, window=reader)
        order = BankOrder(len(rows), batch_size, seed, placement.num_parts, window, self.rank, self.num_ranks)
        edges = order.part_edges()[order.parts.start : order.parts.stop + 1]
        bank = CellBank(View(view.manifest, rows[edges[0] : edges[-1]]), edges - edges[0], **options)
        return Store(placement, bank, order)

    def _unless_memory_fails(self, placement: Placement, make: Callable[[], Store]) -> Store | None:
        """What `make` gives; None where memory that seemed free is not, on this rank or another: it is then taken for
        full, and the next place is to be tried."""
        store, failed = None, torch.zeros((), device=self.config.device)
        try:
            store = make()
        except (MemoryError, RuntimeError, FastcellError) as error:
            if placement.store == "stream" or not _is_out_of_memory(error):
                raise
            failed += 1
        if _distributed():
            torch.distributed.all_reduce(failed, op=torch.distributed.ReduceOp.MAX)
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
        """Choose where this rank's cells of an evaluation that comes again go, in stored order, and open it.

        Args:
            view: over all ranks.
            share: this rank's rows of it.
        """
        rows = view.rows[share.start : share.stop] if len(share) else view.rows[:1]
        kind = "auto" if self.kind == "bank" else self.kind  # a rolling window mixes: no use in stored order
        cells, size = _each_once(rows), self._sizes(view)
        placement = place(kind, len(cells), int(size[cells].sum()), 0, 1, self._left())
        if placement.store == "stream":
            return self._keep(Store(placement))
        bank = CellBank(View(view.manifest, rows), np.array([0, len(rows)]), **self._options(placement))
        return self._keep(Store(placement, bank))

    def close(self) -> None:
        """Stop what fills them."""
        for store in self._opened:
            store.close()

    def _keep(self, store: Store) -> Store:
        self._opened.append(store)
        self._budget = self._budget.less(store.placement)
        return store

    def _left(self) -> Budget:
        """What the rank with the least has left."""
        budget = self._budget
        if not _distributed():
            return budget
        least = torch.tensor([budget.host_bytes, budget.gpu_bytes or 0], device=self.config.device)
        torch.distributed.all_reduce(least, op=torch.distributed.ReduceOp.MIN)
        host, gpu = least.tolist()
        return Budget(None if budget.gpu_bytes is None else gpu, host)

    def _sizes(self, view: View) -> np.ndarray:
        """(N,) int64, bytes of every cell of the manifest."""
        heights, widths = (view.manifest.column(name).astype(np.int64) for name in ("height", "width"))
        return heights * widths * (self.depth // 8)

    def _options(self, placement: Placement) -> dict[str, Any]:
        return {
            "memory": placement.memory,
            "device": self.config.device,
            "depth": self.depth,
            "decode_on_gpu": self.config.device.type == "cuda",
            "decoder": self.config.reader_decoder,
            "threads": self.config.threads,
            "losses": self._losses,
        }


def _each_once(rows: np.ndarray) -> np.ndarray:
    """Rows of a view without repeats, which stand side by side; `np.unique` takes over a microsecond for each."""
    return rows[np.diff(rows, prepend=-1) != 0]


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _is_out_of_memory(error: BaseException) -> bool:
    """Torch has a type of its own for a full GPU, and for the host only words."""
    words = ("can't allocate memory", "must be free to be pinned")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def _free_memory(device: torch.device, limit_bytes: int | None, num_local: int) -> Budget:
    on_gpu = device.type == "cuda"
    if limit_bytes is not None:
        return Budget(limit_bytes if on_gpu else None, limit_bytes)
    host = int(SHARE_OF_FREE * available_memory()) // num_local
    if not on_gpu:
        return Budget(None, host)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, free for a bank
    return Budget(int(SHARE_OF_FREE * (torch.cuda.mem_get_info(device)[0] + kept)), host)
