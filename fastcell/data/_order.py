"""Which cell goes into which shard, and where in it: seeded, over the whole data set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastcell.data.listing import SourceItem

Blocks = list[tuple[str, list[SourceItem]]]
"""Side and cells of each block of a shard."""


def cell_shards(items: list[SourceItem], shard_cells: int, seed: int) -> list[Blocks]:
    """Shards of one nameless block each, cells in a seeded order over the whole set."""
    order = np.random.default_rng([seed, 0xCE11]).permutation(len(items)).tolist()
    return [
        [("", [items[i] for i in order[start : start + shard_cells]])] for start in range(0, len(order), shard_cells)
    ]


def block_shards(
    items: list[SourceItem], splits: Mapping[str, np.ndarray], shard_cells: int, block_cells: int, seed: int
) -> list[Blocks]:
    """Blocks in a seeded order; the cells of a block share their side in every split, so that each split is whole
    blocks."""
    rng = np.random.default_rng([seed, 0xB10C])
    code = np.zeros(len(items), dtype=np.int64)
    for sides in splits.values():
        _, side = np.unique(sides, return_inverse=True)
        _, code = np.unique(code * 4 + side.reshape(-1), return_inverse=True)
    blocks: Blocks = []
    for value in np.unique(code):
        rows = rng.permutation(np.flatnonzero(code == value))
        side_name = str(splits["default"][rows[0]])
        for part in np.array_split(rows, -(-len(rows) // block_cells)):
            blocks.append((side_name, [items[i] for i in part.tolist()]))
    order = rng.permutation(len(blocks)).tolist()
    shards: list[Blocks] = []
    room = 0
    for i in order:
        if room < len(blocks[i][1]):
            shards.append([])
            room = max(shard_cells, block_cells)
        shards[-1].append(blocks[i])
        room -= len(blocks[i][1])
    return shards
