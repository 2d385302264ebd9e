"""Choice of the store of the decoded cells, from exact byte counts and free memory, with a one-line reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from fastcell.errors import invalid
from fastcell.loading.order import NUM_PARTS
from fastcell.system.resources import available_memory

StoreName = Literal["auto", "stream", "bank"]

STORES: tuple[StoreName, ...] = get_args(StoreName)

#: Fraction of the free memory that a bank may use if the user sets no limit.
SHARE_OF_FREE = 0.5


@dataclass(frozen=True)
class Budget:
    """Memory that a bank may use: the minimum over all ranks.

    Attributes:
        gpu_bytes: memory of a rank's GPU; None without a GPU.
        host_bytes: host memory per rank.
    """

    gpu_bytes: int | None
    host_bytes: int

    def less(self, placement: Placement) -> Budget:
        """Return the budget that remains after a bank has been placed."""
        taken = placement.pool_bytes
        if placement.memory == "gpu":
            return Budget(max(0, (self.gpu_bytes or 0) - taken), self.host_bytes)
        return Budget(self.gpu_bytes, max(0, self.host_bytes - taken))


@dataclass(frozen=True)
class Placement:
    """How the cells of one subset of the data are kept.

    Attributes:
        store: ``bank`` (all cells are kept) or ``stream`` (none are kept).
        memory: location of the pool: ``gpu``, ``pinned`` (host memory that the GPU reads over the bus) or ``host``.
        num_parts: 1 if every rank has all cells, `NUM_PARTS` if each rank has some of the parts.
        pool_bytes: size of the pixels on this rank.
        reason: one line for the user.
    """

    store: str
    memory: str
    num_parts: int
    pool_bytes: int
    reason: str


def place(store: str, num_cells: int, num_bytes: int, rank_bytes: int, num_ranks: int, budget: Budget) -> Placement:
    """Choose the fastest place that the cells fit into.

    Args:
        store: ``auto`` or ``bank`` (a bank if it fits, else the stream), or ``stream``.
        num_cells: number of different cells of the view.
        num_bytes: size of their pixels.
        rank_bytes: maximum size of the pixels on one rank if the cells are cut into `NUM_PARTS` parts.
        num_ranks: number of ranks that share the work.
        budget: available memory.

    Raises:
        ArgumentError: `store` is unknown, or it is ``bank`` and the budget is 0.
    """
    if store not in STORES:
        raise invalid("store", f"one of {', '.join(STORES)}", store, "Leave it at auto")
    near, what = ("host", "memory") if budget.gpu_bytes is None else ("gpu", "GPU memory")
    if store == "stream":
        return Placement("stream", near, 1, 0, "stream: cells are read and decoded in every epoch, as asked for")
    cells = f"{num_cells:,} cells, {size_text(num_bytes)}"
    room = budget.host_bytes if budget.gpu_bytes is None else budget.gpu_bytes
    later = "later epochs neither read nor decode"
    if num_bytes <= room:
        return Placement("bank", near, 1, num_bytes, f"bank: {cells} in {what} ({size_text(room)} allowed); {later}")
    cuts = num_ranks > 1 and NUM_PARTS % num_ranks == 0
    if cuts and rank_bytes <= room:
        reason = (
            f"bank: {cells} over the {what} of {num_ranks} processes, {size_text(rank_bytes)} in each "
            f"({size_text(room)} allowed, too little for all); {later}"
        )
        return Placement("bank", near, NUM_PARTS, rank_bytes, reason)
    if budget.gpu_bytes is not None and num_bytes <= budget.host_bytes:
        reason = (
            f"bank: {cells} in pinned host memory, read over the bus (too much for the {size_text(room)} allowed of "
            f"GPU memory); {later}"
        )
        return Placement("bank", "pinned", 1, num_bytes, reason)
    if store == "bank" and room < 1:
        raise invalid("bank_gib", "above 0 for a bank", 0, "Give it memory, or take --data.store stream")
    allowed = f"{size_text(room)} of {what} allowed" + " for the bank that was asked for" * (store == "bank")
    reason = f"stream: {cells} are more than the {allowed}; every epoch reads and decodes"
    return Placement("stream", near, 1, 0, reason)


def free_memory(device: torch.device, limit_bytes: int | None, num_local: int) -> Budget:
    """Return the memory that the banks of this process may use.

    Args:
        device: device of the batches.
        limit_bytes: limit set by the user, for the GPU and the host alike; None for half of the free memory.
        num_local: number of processes on this machine, which share its memory.
    """
    on_gpu = device.type == "cuda"
    if limit_bytes is not None:
        return Budget(limit_bytes if on_gpu else None, limit_bytes)
    host = int(SHARE_OF_FREE * available_memory()) // num_local
    if not on_gpu:
        return Budget(None, host)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # cached by torch, free for a bank
    return Budget(int(SHARE_OF_FREE * (torch.cuda.mem_get_info(device)[0] + kept)), host)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means out of memory; torch has an exception for the GPU, only messages for the host."""
    words = ("can't allocate memory", "must be free to be pinned", "CUDA error: out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def size_text(num_bytes: float) -> str:
    """Return a number of bytes as text in the largest unit of which it has at least one, e.g. ``2.4 GB``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} bytes"
