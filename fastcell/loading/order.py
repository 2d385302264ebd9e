"""The order of an epoch, for every store: arithmetic on (seed, epoch, step) alone.

Bank (`BankOrder`). The rows of a view, in the order in which the bank is filled (`fill_order`), are cut into
`num_parts` contiguous parts. An epoch is one sequence of all rows: place m of it belongs to part m mod P, so that every
batch takes floor(B / P) or ceil(B / P) cells of each part. With one part an epoch is one permutation. Inside a part,
epoch 0 mixes rows within a fixed span of the fill order, for the bank fills meanwhile; every later epoch is one
permutation of the part. Ranks share a batch, not an epoch. Where each has the whole bank, rank r takes the r-th slice
of it; where a rank has whole parts, it takes their cells. The batches are the same whatever the number of ranks.

Stream (`StreamOrder`). A rank's rows are cut once from the stored order of the view. An epoch permutes their shards
and mixes the rows within spans, which on top of the seeded order that packing gives to all cells makes an epoch random.
A span is read in the order of the file, while the one before it is decoded. The same rank sees the same cells in every
epoch, in another order.

Evaluation (`StoredOrder`) takes the rows as they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fastcell.dataset.views import View
from fastcell.errors import invalid
from fastcell.loading.ranks import Share

#: Rows that are mixed at a time where nothing else is asked for.
DEFAULT_SPAN = 8192

#: Parts that a bank is cut into where no rank holds all of it: for 1, 2, 4 or 8 ranks.
NUM_PARTS = 8

_GENERATOR = 7  # of the bank's order, so that no other use of the seed draws the same


class Batches(NamedTuple):
    """The cells of some steps on one rank.

    Attributes:
        entries: (steps, b) int64, rows in fill order, counted from the first that this rank holds.
        positions: (steps, b) int64, place of each in the epoch; of padding a number that no cell has.
        real: (steps, b) bool, False for padding.
    """

    entries: np.ndarray
    positions: np.ndarray
    real: np.ndarray


@dataclass(frozen=True)
class BankOrder:
    """The order of training batches.

    Attributes:
        num_rows: of the view over all ranks, repeats counted.
        batch_size: over all ranks.
        seed: of the order.
        num_parts: 1, or `NUM_PARTS`.
        span: rows that epoch 0 mixes, over all parts.
        rank: this rank.
        num_ranks: how many there are; with `NUM_PARTS` parts one of 1, 2, 4, 8.

    Raises:
        ArgumentError: `batch_size` cannot be divided evenly, or the parts cannot.
    """

    num_rows: int
    batch_size: int
    seed: int = 0
    num_parts: int = 1
    span: int = DEFAULT_SPAN
    rank: int = 0
    num_ranks: int = 1
    _kept: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.batch_size % self.num_ranks:
            rule = f"a positive multiple of the number of processes ({self.num_ranks}), which share it"
            fitting = max(self.batch_size // self.num_ranks, 1) * self.num_ranks
            raise invalid("batch_size", rule, self.batch_size, f"Take {fitting}")
        if self.num_parts > 1 and self.num_parts % self.num_ranks:
            raise invalid("number of processes", f"a divisor of {self.num_parts}", self.num_ranks, "Or use the stream")

    @property
    def steps(self) -> int:
        """Batches in an epoch, the last one filled up with padding."""
        return -(-self.num_rows // self.batch_size)

    @property
    def batch(self) -> int:
        """Cells of one batch on this rank."""
        if self.num_parts == 1:
            return self.batch_size // self.num_ranks
        whole, rest = divmod(self.batch_size, self.num_parts)
        owned = self.num_parts // self.num_ranks
        return whole * owned + min(rest, owned)

    @property
    def parts(self) -> range:
        """The parts that this rank holds."""
        if self.num_parts == 1:
            return range(1)
        owned = self.num_parts // self.num_ranks
        return range(self.rank * owned, (self.rank + 1) * owned)

    def part_edges(self) -> np.ndarray:
        """(P + 1,) int64: part p holds the rows from edge p up to edge p + 1 of the fill order."""
        sizes = [self.part_size(part) for part in range(self.num_parts)]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def part_size(self, part: int) -> int:
        """Rows of a part: the places m of an epoch with m mod P = part."""
        return max(0, -(-(self.num_rows - part) // self.num_parts))

    def permutation(self, epoch: int, part: int) -> np.ndarray:
        """(n,) unsigned, a part's rows in the order of an epoch, numbered from the part's first row."""
        if any(kept != epoch for kept, _ in list(self._kept)):
            self._kept.clear()
        order = self._kept.get((epoch, part))
        if order is None:
            span = max(1, self.span // self.num_parts) if epoch == 0 else 0
            rng = np.random.default_rng([self.seed, epoch, _GENERATOR, part])
            order = self._kept[epoch, part] = _permute(rng, self.part_size(part), span)
        return order

    def batches(self, epoch: int, first: int = 0, stop: int | None = None) -> Batches:
        """The batches from step `first` up to `stop` of an epoch on this rank; any of them without those before it."""
        steps = np.arange(first, self.steps if stop is None else stop)
        positions, real = self._positions(steps)
        entries = np.zeros_like(positions)
        edges = self.part_edges() - self.part_edges()[self.parts.start]
        for part in self.parts:
            mine = real & (positions % self.num_parts == part)
            entries[mine] = edges[part] + self.permutation(epoch, part)[positions[mine] // self.num_parts]
        if not real.all():
            self._pad(epoch, steps, entries, real)
        return Batches(entries, positions, real)

    def _pad(self, epoch: int, steps: np.ndarray, entries: np.ndarray, real: np.ndarray) -> None:
        """Fill up with the cells drawn just before, all different: a batch norm sees padding too."""
        part = self.parts.start
        size = max(self.part_size(part), 1)
        order = self.permutation(epoch, part) if self.part_size(part) else np.zeros(1, np.int64)
        step, slot = np.nonzero(~real)
        number = (np.cumsum(~real, axis=1) - 1)[step, slot]
        drawn = steps[step] * self.batch_size // self.num_parts  # of the part, before this batch
        entries[step, slot] = order[np.where(drawn > number, drawn - 1 - number, number) % size]

    def _positions(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in the epoch of this rank's cells, (steps, b), and which of them are real."""
        start = steps[:, None] * self.batch_size
        if self.num_parts == 1:
            positions = start + self.rank * self.batch + np.arange(self.batch)
            return positions, positions < self.num_rows
        every = start + np.arange(self.batch_size)
        own = np.isin(every % self.num_parts, self.parts)
        # own cells to the front, in order; behind them places of other ranks' cells, as padding
        slots = np.argsort(~own, axis=1, kind="stable")[:, : self.batch]
        rows = np.arange(len(steps))[:, None]
        positions, mine = every[rows, slots], own[rows, slots]
        real = mine & (positions < self.num_rows)
        behind = self.steps * self.batch_size + np.arange(self.batch)  # noise of padding is nobody else's
        return np.where(real, positions, behind), real


def _permute(rng: np.random.Generator, size: int, span: int) -> np.ndarray:
    """(size,) unsigned: a permutation, inside of spans of that many; 0 for one span."""
    if not span:
        order = rng.permutation(size)
    else:
        keys, whole = rng.random(size), size // span * span
        inside = np.argsort(keys[:whole].reshape(-1, span), axis=1) + np.arange(0, whole, span)[:, None]
        order = np.concatenate([inside.ravel(), whole + np.argsort(keys[whole:])])
    order = order.astype(np.min_scalar_type(max(size, 1 << 16)))  # kept for an epoch: half of what int64 takes
    order.flags.writeable = False
    return order


def fill_order(view: View, seed: int) -> np.ndarray:
    """Return the rows of a view in the order in which a bank is filled: whole shards in a seeded order.

    Blocks are in such an order already and are read as they lie.

    Args:
        view: the rows, in stored order.
        seed: of the order.

    Returns:
        (n,) int64.
    """
    if view.manifest.info.layout == "block":
        return view.rows
    shard = view.manifest.shard_index
    order = np.random.default_rng([seed, 6]).permutation(len(view.manifest.info.shards))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return view.rows[np.argsort(place[shard[view.rows]], kind="stable")]


@dataclass(frozen=True)
class StreamOrder:
    """The order in which one rank's rows pass through a stream.

    Attributes:
        rows: (n,) int64, this rank's rows of the view in stored order, repeats allowed, at least one.
        shards: (n,) int, number of the shard of each.
        share: this rank's part and the size of its batches.
        seed: of the order.
        shuffle: another order of the shards in every epoch; else the stored order.
        span: rows that are mixed at a time, rounded down to whole batches; None leaves them unmixed.
    """

    rows: np.ndarray
    shards: np.ndarray
    share: Share
    seed: int = 0
    shuffle: bool = False
    span: int | None = None

    def unmixed(self, epoch: int) -> np.ndarray:
        """(n,) int64, the rows shard by shard."""
        if not self.shuffle:
            return self.rows
        starts = np.flatnonzero(np.diff(self.shards, prepend=-1))
        parts = np.split(self.rows, starts[1:])
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(len(parts))
        return np.concatenate([parts[number] for number in order])

    def mixed(self, epoch: int) -> np.ndarray:
        """(n,) int64, the rows as an epoch takes them."""
        order = self.unmixed(epoch)
        if self.span is None:
            return order
        rng = np.random.default_rng([self.seed, epoch, 1, self.share.rank])
        order = np.roll(order, rng.integers(len(order)))  # else few shards would give the same spans again and again
        span = self.share.whole_batches(self.span)
        return np.concatenate([rng.permutation(order[begin : begin + span]) for begin in range(0, len(order), span)])

    def padded(self, epoch: int) -> np.ndarray:
        """(steps * batch,) int64 or more: `mixed`, then the rows drawn just before as padding: a batch norm sees it."""
        order, share = self.mixed(epoch), self.share
        whole = len(order) // share.batch * share.batch
        padding = order[:whole][::-1] if whole else order
        return np.concatenate([order, np.resize(padding, max(share.steps * share.batch - len(order), 0))])


@dataclass(frozen=True)
class StoredOrder:
    """The order of evaluation: the rows of one rank's share as they are stored, in chunks.

    Attributes:
        share: from `fastcell.loading.ranks.evaluation_share`; entry 0 is its first row.
    """

    share: Share

    @property
    def steps(self) -> int:
        """Chunks, the same number on every rank."""
        return self.share.steps

    @property
    def batch(self) -> int:
        """Cells of one chunk."""
        return self.share.batch

    def batches(self, epoch: int, first: int = 0, stop: int | None = None) -> Batches:
        """The chunks from `first` up to `stop`; the same in every epoch."""
        steps = np.arange(first, self.steps if stop is None else stop)
        entries = steps[:, None] * self.batch + np.arange(self.batch)
        real = entries < len(self.share)
        positions = np.array([self.share.positions(step) for step in steps.tolist()], np.int64).reshape(entries.shape)
        return Batches(np.where(real, entries, 0), positions, real)
