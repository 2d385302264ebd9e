"""The order of an epoch for every store, computed from (seed, epoch, step) alone.

Bank (`BankOrder`). The rows of a view, in the order in which the bank is filled (`fill_order`), are cut into
`num_parts` contiguous parts. An epoch is one sequence of all rows. Position m of the sequence belongs to part m mod P,
so every batch takes floor(B / P) or ceil(B / P) cells of each part. With one part, an epoch is one permutation. Within
a part, epoch 0 mixes rows within a fixed span of the fill order, because the bank is still being filled; every later
epoch is one permutation of the part. Ranks share each batch. If every rank has the whole bank, rank r takes the r-th
slice of the batch; if a rank has whole parts, it takes their cells. The batches do not depend on the number of ranks.

Stream (`StreamOrder`). The rows of a rank are cut once from the stored order of the view. An epoch permutes their
shards and mixes the rows within spans. Together with the seeded order in which cells are packed, this makes an epoch
random. A span is read in file order while the previous one is decoded. A rank reads the same cells in every epoch, in
another order. Spans are computed one after another, so that the order of any number of rows takes the memory of a span;
a bank keeps its permutation, 4 bytes for each cell in the bank.

Evaluation (`StoredOrder`) uses the rows in stored order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fastcell.dataset.views import View
from fastcell.errors import invalid
from fastcell.loading.ranks import Share

#: Default mixing span: number of rows that are mixed together.
DEFAULT_SPAN = 8192

#: Number of parts of a bank if no rank holds all of it; works for 1, 2, 4 or 8 ranks.
NUM_PARTS = 8

_GENERATOR = 7  # part of the seed of the bank's order, which makes it different from all other uses of the seed


class Batches(NamedTuple):
    """The cells of a number of steps on one rank.

    Attributes:
        entries: (steps, b) int64, rows in fill order, counted from the first row that this rank holds.
        positions: (steps, b) int64, position of each cell in the epoch; for padding, a number that no cell has.
        real: (steps, b) bool, False for padding.
    """

    entries: np.ndarray
    positions: np.ndarray
    real: np.ndarray


@dataclass(frozen=True)
class BankOrder:
    """The order of training batches from a bank.

    Attributes:
        num_rows: rows of the view over all ranks, repeats counted.
        batch_size: cells per batch over all ranks.
        seed: seed of the order.
        num_parts: 1, or `NUM_PARTS`.
        span: number of rows that epoch 0 mixes, over all parts.
        rank: index of this rank.
        num_ranks: number of ranks; with `NUM_PARTS` parts one of 1, 2, 4, 8.

    Raises:
        ArgumentError: `batch_size` or the parts cannot be divided evenly among the ranks.
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
        """Number of batches in an epoch; the last one is padded."""
        return -(-self.num_rows // self.batch_size)

    def num_real_of_all(self, step: int) -> int:
        """Return the number of cells that count in batch `step` of all ranks together."""
        return min(self.batch_size, self.num_rows - step * self.batch_size)

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
        """Parts that this rank holds."""
        if self.num_parts == 1:
            return range(1)
        owned = self.num_parts // self.num_ranks
        return range(self.rank * owned, (self.rank + 1) * owned)

    def part_edges(self) -> np.ndarray:
        """Return (P + 1,) int64: part p holds the rows from edge p to edge p + 1, exclusive, of the fill order."""
        sizes = [self.part_size(part) for part in range(self.num_parts)]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def part_size(self, part: int) -> int:
        """Return the number of rows of a part, i.e. of the positions m of an epoch with m mod P = part."""
        return max(0, -(-(self.num_rows - part) // self.num_parts))

    def permutation(self, epoch: int, part: int) -> np.ndarray:
        """Return the rows of a part in the order of an epoch, (n,) unsigned, counted from the part's first row."""
        for key in [key for key in self._kept if not epoch <= key[0] <= epoch + 1]:
            self._kept.pop(key, None)
        order = self._kept.get((epoch, part))
        if order is None:
            order = self._kept[epoch, part] = self._permuted(epoch, part)
        return order

    def _permuted(self, epoch: int, part: int) -> np.ndarray:
        span = max(1, self.span // self.num_parts) if epoch == 0 else 0
        rng = np.random.default_rng([self.seed, epoch, _GENERATOR, part])
        return _permute(rng, self.part_size(part), span)

    def prepare(self, epoch: int) -> None:
        """Compute the permutation of an epoch in advance, while the previous epoch still runs."""
        for part in self.parts:
            if (epoch, part) not in self._kept:
                self._kept[epoch, part] = self._permuted(epoch, part)

    def batches(self, epoch: int, first: int = 0, stop: int | None = None) -> Batches:
        """Return this rank's batches of steps `first` to `stop` (exclusive), without computing earlier ones."""
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
        """Pad with the preceding cells, all different, because batch normalisation also uses padding."""
        part = self.parts.start
        size = max(self.part_size(part), 1)
        order = self.permutation(epoch, part) if self.part_size(part) else np.zeros(1, np.int64)
        step, slot = np.nonzero(~real)
        number = (np.cumsum(~real, axis=1) - 1)[step, slot]
        drawn = steps[step] * self.batch_size // self.num_parts  # cells of the part that were drawn before this batch
        entries[step, slot] = order[np.where(drawn > number, drawn - 1 - number, number) % size]

    def _positions(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions in the epoch of this rank's cells, (steps, b), and True for those that are real."""
        start = steps[:, None] * self.batch_size
        if self.num_parts == 1:
            positions = start + self.rank * self.batch + np.arange(self.batch)
            return positions, positions < self.num_rows
        every = start + np.arange(self.batch_size)
        own = np.isin(every % self.num_parts, self.parts)
        # This rank's cells come first, in order; positions of other ranks' cells follow as padding.
        slots = np.argsort(~own, axis=1, kind="stable")[:, : self.batch]
        rows = np.arange(len(steps))[:, None]
        positions, mine = every[rows, slots], own[rows, slots]
        real = mine & (positions < self.num_rows)
        behind = self.steps * self.batch_size + np.arange(self.batch)  # no cell has the same noise as padding
        return np.where(real, positions, behind), real


def _permute(rng: np.random.Generator, size: int, span: int) -> np.ndarray:
    """Return a permutation within spans of `span` rows, (size,) unsigned; a span of 0 stands for one span."""
    if not span:
        order = rng.permutation(size)
    else:
        keys, whole = rng.random(size), size // span * span
        inside = np.argsort(keys[:whole].reshape(-1, span), axis=1) + np.arange(0, whole, span)[:, None]
        order = np.concatenate([inside.ravel(), whole + np.argsort(keys[whole:])])
    order = order.astype(np.min_scalar_type(max(size, 1 << 16)))  # kept for an epoch: half the memory of int64
    order.flags.writeable = False
    return order


def fill_order(view: View, seed: int) -> np.ndarray:
    """Return the rows of a view in the order in which a bank is filled: whole shards in a seeded order.

    Blocks are already packed in such an order and are read as they are stored.

    Args:
        view: the rows, in stored order.
        seed: seed of the order.

    Returns:
        (n,) int64.
    """
    rows = view.rows
    if view.manifest.info.layout == "block":
        return rows
    order = np.random.default_rng([seed, 6]).permutation(len(view.manifest.info.shards))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return rows[np.argsort(place[view.manifest.shards_of(rows)], kind="stable")]


@dataclass(frozen=True)
class StreamOrder:
    """The order in which the rows of one rank pass through a stream; computed span by span, never as a whole.

    Attributes:
        view: view over all ranks, in stored order, repeats allowed.
        share: part of the view for this rank, at least one row, and the size of its batches.
        seed: seed of the order.
        shuffle: use another order of the shards in every epoch; else the stored order.
        span: mixing span in rows, rounded down to whole batches; None does not mix.
    """

    view: View
    share: Share
    seed: int = 0
    shuffle: bool = False
    span: int | None = None

    def __len__(self) -> int:
        return max(len(self.share), 1)  # with more ranks than rows: one row as padding

    @property
    def start(self) -> int:
        """Place of the first row in the view."""
        return self.share.start if len(self.share) else 0

    @property
    def rows(self) -> np.ndarray:
        """(n,) int64, all rows of the rank in stored order."""
        return self.view.part(self.start, self.start + len(self))

    @cached_property
    def _starts(self) -> np.ndarray:
        """(m + 1,) int64, places of the rank's rows at which a shard begins, and their number."""
        return np.append(self.view.shard_starts(self.start, self.start + len(self)), len(self))

    def spans(self, epoch: int, first: int, steps_at_once: int) -> Iterator[np.ndarray]:
        """Yield the rows of an epoch from step `first` on in whole batches, padded at the end.

        The padding repeats the rows drawn just before it, because batch normalisation also uses padding.

        Args:
            epoch: number of the epoch.
            first: first step.
            steps_at_once: steps of an array without mixing; with mixing an array is a mixing span.

        Yields:
            (n,) int64.
        """
        batch, total = self.share.batch, max(self.share.steps * self.share.batch, len(self))
        runs = self._runs(epoch)
        if self.span is not None:
            yield from self._mixed_spans(epoch, first * batch, runs)
            return
        for begin in range(first * batch, total, steps_at_once * batch):
            end = min(begin + steps_at_once * batch, total)
            rows = self._part(runs, min(begin, len(self)), min(end, len(self)))
            yield np.append(rows, self._padding(runs, max(begin - len(self), 0), end - len(self)))

    def _mixed_spans(self, epoch: int, skip: int, runs: _Runs) -> Iterator[np.ndarray]:
        assert self.span is not None
        num, length = len(self), self.share.whole_batches(self.span)
        rng = np.random.default_rng([self.seed, epoch, 1, self.share.rank])
        shift = int(rng.integers(num))  # else few shards would give the same spans in every epoch
        last: deque[np.ndarray] = deque(maxlen=2)
        for begin in range(0, num, length):
            end = min(begin + length, num)
            if end <= skip - 2 * length:  # only the draws of the generator count
                rng.permutation(end - begin)
                continue
            rows = rng.permutation(self._around(runs, begin - shift, end - shift))
            if end == num:
                rows = np.append(rows, self._mixed_padding(np.concatenate([*last, rows])))
            if begin + len(rows) > skip:
                yield rows[max(skip - begin, 0) :]
            last.append(rows)

    def _mixed_padding(self, drawn: np.ndarray) -> np.ndarray:
        """Return the padding up to whole batches, given the last rows of an epoch: at most a batch."""
        size, batch = self.share.steps * self.share.batch - len(self), self.share.batch
        whole = len(self) // batch * batch
        source = drawn[: len(drawn) - (len(self) - whole)][::-1] if whole else drawn
        return np.resize(source, max(size, 0))

    def _padding(self, runs: _Runs, begin: int, end: int) -> np.ndarray:
        """Return the padding from place `begin` to `end` behind the rows of an order that is not mixed."""
        if end <= begin:
            return np.empty(0, np.int64)
        whole = len(self) // self.share.batch * self.share.batch
        size = whole or len(self)
        if end <= size:
            source = self._part(runs, size - end, size - begin) if whole else self._part(runs, begin, end)
            return source[::-1] if whole else source
        source = self._part(runs, 0, size)
        return (source[::-1] if whole else source)[np.arange(begin, end) % size]

    def _runs(self, epoch: int) -> _Runs:
        """Return the rows of the shards in the order of an epoch."""
        begins, lengths = self._starts[:-1], np.diff(self._starts)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch, 0]).permutation(len(begins))
            begins, lengths = begins[order], lengths[order]
        return _Runs(begins, np.append(0, np.cumsum(lengths)))

    def _around(self, runs: _Runs, begin: int, end: int) -> np.ndarray:
        """Return the rows from place `begin`, which may be negative, to `end`; the last place is before the first."""
        if begin < 0 < end:
            return np.append(self._part(runs, begin + len(self), len(self)), self._part(runs, 0, end))
        offset = len(self) if begin < 0 else 0
        return self._part(runs, begin + offset, end + offset)

    def _part(self, runs: _Runs, begin: int, end: int) -> np.ndarray:
        """Return the rows from place `begin` to `end` of an order of runs."""
        parts = [np.empty(0, np.int64)]
        number = int(np.searchsorted(runs.places, begin, "right")) - 1
        while begin < end:
            until = min(end, int(runs.places[number + 1]))
            at = self.start + int(runs.begins[number]) + begin - int(runs.places[number])
            parts.append(self.view.part(at, at + until - begin))
            begin, number = until, number + 1
        return np.concatenate(parts)


class _Runs(NamedTuple):
    """Runs of adjacent rows in an order.

    Attributes:
        begins: (m,) int64, first row of each run, counted from the first row of the rank.
        places: (m + 1,) int64, place of each run in the order, and the number of rows.
    """

    begins: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class StoredOrder:
    """The order of evaluation: the rows of one rank's share in stored order, in chunks.

    Attributes:
        share: result of `fastcell.loading.ranks.evaluation_share`; entry 0 is its first row.
    """

    share: Share

    @property
    def steps(self) -> int:
        """Number of chunks, the same on every rank."""
        return self.share.steps

    @property
    def batch(self) -> int:
        """Cells of one chunk."""
        return self.share.batch

    def batches(self, epoch: int, first: int = 0, stop: int | None = None) -> Batches:
        """Return the chunks from `first` to `stop`, exclusive; they are the same in every epoch."""
        steps = np.arange(first, self.steps if stop is None else stop)
        entries = steps[:, None] * self.batch + np.arange(self.batch)
        real = entries < len(self.share)
        positions = np.array([self.share.positions(step) for step in steps.tolist()], np.int64).reshape(entries.shape)
        return Batches(np.where(real, entries, 0), positions, real)
