"""What of a data set at an address a pass downloads: whole shards ahead of their use, or ranges for a few cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from fastcell.dataset.manifest import Manifest

_FEW_CELLS = 64
_SMALL_BYTES = 4 << 20
"""Size of a shard up to which it is always downloaded whole."""
_FEW_BYTES = 1 / 16
"""Share of a shard below which its cells are read by range."""


def shards_by_range(manifest: Manifest, parts: Iterable[np.ndarray]) -> frozenset[int]:
    """Return the indices of the shards of which a pass wants few cells, and which are not in the cache.

    Args:
        manifest: manifest of the data set.
        parts: (n,) int64, cell_ids of the pass, some at a time in any order.
    """
    remote, shards = manifest.remote, manifest.info.shards
    if remote is None:
        return frozenset()
    wanted, cells = np.zeros(len(shards)), np.zeros(len(shards), np.int64)
    for part in parts:
        rows = np.unique(part)
        index, sizes = manifest.shards_of(rows), manifest.column("bytes")[rows]
        wanted += np.bincount(index, weights=sizes, minlength=len(shards))
        cells += np.bincount(index, minlength=len(shards))
    whole = np.array([shard["bytes"] for shard in shards], float)
    few = np.flatnonzero((cells > 0) & (cells <= _FEW_CELLS) & (wanted < whole * _FEW_BYTES) & (whole > _SMALL_BYTES))
    return frozenset(i for i in few.tolist() if not remote.is_cached(shards[i]["name"], shards[i]["bytes"]))


@contextmanager
def downloads_ahead(
    manifest: Manifest, later: Iterator[np.ndarray], by_range: frozenset[int]
) -> Iterator[Callable[[np.ndarray], object]]:
    """Download the next shards of a pass inside the block.

    Args:
        manifest: manifest of the data set.
        later: indices of the shards of each span of the pass, in its order.
        by_range: shards that are not downloaded.

    Yields:
        A function to call with the indices of the shards that are read now.
    """
    if manifest.remote is None:
        yield lambda _: None
        return
    from fastcell.remote.fetch_ahead import ShardsAhead

    shards = manifest.info.shards

    def coming() -> Iterator[tuple[str, int]]:
        done = set(by_range)
        for numbers in later:
            for number in numbers.tolist():
                if number not in done:
                    done.add(number)
                    yield shards[number]["name"], shards[number]["bytes"]

    with ShardsAhead(manifest.remote, coming()) as ahead:
        yield lambda numbers: ahead.reached([shards[number]["name"] for number in numbers.tolist()])
