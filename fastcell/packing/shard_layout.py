"""Which cell goes into which shard, and where in it: seeded, over the whole data set.

Cells that are dear to read one by one (`Runs`: a chunk of HDF5 is decoded as a whole) are drawn run by run, in a seeded
order over the whole set, and then mixed within windows of a size that a worker can hold decoded: each run is decoded
once or twice, and a window still has cells of a hundred places.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastcell.sources.base import Runs, SourceItem
from fastcell.sources.containers import WINDOW_BYTES

Blocks = list[tuple[str, list[SourceItem]]]
"""Side and cells of each block of a shard."""


def cell_shards(items: list[SourceItem], shard_cells: int, seed: int, runs: Runs | None = None) -> list[Blocks]:
    """Shards of one nameless block each, cells in a seeded order over the whole set."""
    rng = np.random.default_rng([seed, 0xCE11])
    order = rng.permutation(len(items)).tolist()
    if runs is not None:
        order = [row for part in _windows(runs, shard_cells, rng) for row in part.tolist()]
    return [
        [("", [items[i] for i in order[start : start + shard_cells]])] for start in range(0, len(order), shard_cells)
    ]


def block_shards(
    items: list[SourceItem],
    splits: Mapping[str, np.ndarray],
    shard_cells: int,
    block_cells: int,
    seed: int,
    runs: Runs | None = None,
) -> list[Blocks]:
    """Blocks in a seeded order; the cells of a block share their side in every split, so that each split is whole
    blocks."""
    rng = np.random.default_rng([seed, 0xB10C])
    code = np.zeros(len(items), dtype=np.int64)
    for sides in splits.values():
        _, side = np.unique(sides, return_inverse=True)
        _, code = np.unique(code * 4 + side.reshape(-1), return_inverse=True)
    windows = [np.arange(len(items))] if runs is None else _windows(runs, max(shard_cells, block_cells), rng)
    shards: list[Blocks] = []
    room = 0
    for window in windows:
        blocks: Blocks = []
        for value in np.unique(code[window]):
            rows = rng.permutation(window[code[window] == value])
            side_name = str(splits["default"][rows[0]])
            for part in np.array_split(rows, -(-len(rows) // block_cells)):
                blocks.append((side_name, [items[i] for i in part.tolist()]))
        for i in rng.permutation(len(blocks)).tolist():
            if room < len(blocks[i][1]):
                shards.append([])
                room = max(shard_cells, block_cells)
            shards[-1].append(blocks[i])
            room -= len(blocks[i][1])
    return shards


def _windows(runs: Runs, shard_cells: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of the cells, runs in a seeded order, cut into windows that do not cross shards, each mixed."""
    num = len(runs.numbers)
    place = rng.permutation(int(runs.numbers.max()) + 1)[runs.numbers]
    order = np.argsort(place, kind="stable")
    cells = max(1, WINDOW_BYTES * num // max(runs.num_bytes, 1))
    parts = -(-shard_cells // min(cells, shard_cells))
    edges = [start + shard_cells * part // parts for start in range(0, num, shard_cells) for part in range(parts)]
    return [rng.permutation(part) for part in np.split(order, [edge for edge in edges[1:] if edge < num])]


MAX_SHARD_CELLS = 10_000
MIN_SHARD_CELLS = 256
