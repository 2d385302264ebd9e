"""Assign each cell to a shard and to a position in it, in a seeded order over the whole data set.

Some cells are expensive to read one by one (`Runs`: a chunk of HDF5 is decoded as a whole). Their runs are put in a
seeded order over the whole set, and the cells are then shuffled within mixing spans, whose size allows a worker to hold
them decoded in memory. Each run is decoded once or twice, and a mixing span still contains cells from about a hundred
positions of the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from fastcell.dataset.rows.split_table import subset_codes, subset_names
from fastcell.dataset.schema import LAYOUTS, SPLITS
from fastcell.errors import invalid
from fastcell.sources.base import Runs
from fastcell.sources.containers import WINDOW_BYTES
from fastcell.sources.listings.item_columns import ItemColumns, SomeItems

MAX_SHARD_CELLS = 10_000
MIN_SHARD_CELLS = 256
MAX_BLOCK_CELLS = 65_536
_NUM_SHARDS = 8  # small sets get about this many shards, enough for several workers and ranks

BLOCK_CELLS = 256
_RANK_OF_NAME = np.argsort(np.argsort([*SPLITS, ""]))  # by the number of a subset, of which -1 stands for none

Item = TypeVar("Item")
Blocks = list[tuple[str, Sequence[Item]]]
"""Subset and cells of each block of a shard."""


def check_layout(layout: str, shard_cells: int | None, block_cells: int) -> None:
    """Check the arguments `--layout`, `--shard-cells` and `--block-cells`.

    Raises:
        ArgumentError: If the layout is unknown, `shard_cells` is below 1, or `block_cells` is not in 1..65,536.
    """
    if layout not in LAYOUTS:
        raise invalid("--layout", f"one of {', '.join(LAYOUTS)}", layout, "Use cell for tars that other tools read")
    if shard_cells is not None and shard_cells < 1:
        raise invalid("--shard-cells", "a number >= 1", shard_cells, "10,000 suits most sets")
    if not 1 <= block_cells <= MAX_BLOCK_CELLS:
        raise invalid("--block-cells", "a number from 1 to 65,536", block_cells, "256 suits most sets")


def choose_shard_cells(num_cells: int) -> int:
    """Return the number of cells per shard: 10,000, or fewer in a small set, for about 8 shards; at least 256."""
    return max(MIN_SHARD_CELLS, min(MAX_SHARD_CELLS, -(-num_cells // _NUM_SHARDS)))


def cell_shards(items: Sequence[Item], shard_cells: int, seed: int, runs: Runs | None = None) -> list[Blocks[Item]]:
    """Return shards, each of one unnamed block, with the cells in a seeded order over the whole set.

    Args:
        items: N cells.
        shard_cells: cells per shard.
        seed: seed of the order, >= 0.
        runs: runs of the cells; None if each cell is read separately.
    """
    rng = np.random.default_rng([seed, 0xCE11])
    order = rng.permutation(len(items))
    if runs is not None:
        order = np.concatenate(_windows(runs, shard_cells, rng))
    order = order.astype(np.min_scalar_type(max(len(items), 1)))
    return [[("", _some(items, order[start : start + shard_cells]))] for start in range(0, len(order), shard_cells)]


def block_shards(
    items: Sequence[Item],
    splits: Mapping[str, np.ndarray],
    shard_cells: int,
    block_cells: int,
    seed: int,
    runs: Runs | None = None,
) -> list[Blocks[Item]]:
    """Return shards of blocks in a seeded order; each shard takes blocks until it is full.

    The cells of a block share their subset in every split, so that each split consists of whole blocks.

    Args:
        items: N cells.
        splits: for each split name, `default` among them, the subset of each cell, (N,), see
            `fastcell.dataset.rows.split_table.subset_codes`.
        shard_cells: cells per shard.
        block_cells: maximum number of cells in a block.
        seed: seed of the order, >= 0.
        runs: runs of the cells; None if each cell is read separately.
    """
    rng = np.random.default_rng([seed, 0xB10C])
    windows = [np.arange(len(items))] if runs is None else _windows(runs, max(shard_cells, block_cells), rng)
    shards: list[Blocks[Item]] = []
    room = 0
    for subset, block in _blocks(items, splits, block_cells, windows, rng):
        if room < len(block):
            shards.append([])
            room = max(shard_cells, block_cells)
        shards[-1].append((subset, block))
        room -= len(block)
    return shards


def even_block_shards(
    items: Sequence[Item], splits: Mapping[str, np.ndarray], shard_cells: int, block_cells: int, seed: int
) -> list[Blocks[Item]]:
    """Return shards as `block_shards` does, but with the same number of blocks in every shard except the last."""
    rng = np.random.default_rng([seed, 0xB10C])
    blocks = list(_blocks(items, splits, block_cells, [np.arange(len(items))], rng))
    num = -(-shard_cells // block_cells)
    return [blocks[start : start + num] for start in range(0, len(blocks), num)]


def _blocks(
    items: Sequence[Item],
    splits: Mapping[str, np.ndarray],
    block_cells: int,
    windows: Sequence[np.ndarray],
    rng: np.random.Generator,
) -> Iterator[tuple[str, Sequence[Item]]]:
    """Yield blocks of cells that share their subset in every split, in a seeded order within each mixing span."""
    code = np.zeros(len(items), dtype=np.int64)
    for subsets in splits.values():
        _, code = np.unique(code * 4 + _RANK_OF_NAME[subset_codes(subsets)], return_inverse=True)
    names = subset_names(subset_codes(splits["default"]))
    for window in windows:
        blocks: Blocks[Item] = []
        for value in np.unique(code[window]):
            rows = rng.permutation(window[code[window] == value])
            name = str(names[rows[0]])
            for part in np.array_split(rows, -(-len(rows) // block_cells)):
                blocks.append((name, _some(items, part)))
        for i in rng.permutation(len(blocks)).tolist():
            yield blocks[i]


def _some(items: Sequence[Item], rows: np.ndarray) -> Sequence[Item]:
    """Return the items with the indices `rows`; those of columns are made when they are asked for."""
    if isinstance(items, ItemColumns):
        return SomeItems(items, rows)  # type: ignore[return-value]
    return [items[row] for row in rows.tolist()]


def _windows(runs: Runs, shard_cells: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the cells' rows, runs in a seeded order, cut into shuffled mixing spans that do not cross shards."""
    num = len(runs.numbers)
    place = rng.permutation(int(runs.numbers.max()) + 1)[runs.numbers]
    order = np.argsort(place, kind="stable")
    cells = max(1, WINDOW_BYTES * num // max(runs.num_bytes, 1))
    parts = -(-shard_cells // min(cells, shard_cells))
    edges = [start + shard_cells * part // parts for start in range(0, num, shard_cells) for part in range(parts)]
    return [rng.permutation(part) for part in np.split(order, [edge for edge in edges[1:] if edge < num])]
