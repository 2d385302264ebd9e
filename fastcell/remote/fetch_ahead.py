"""Download the next shards of a pass over a data set while earlier ones are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Any

from fastcell.remote.remote_dataset import RemoteDataset

_THREADS = 3
_MOST_SHARE = 0.25
_MOST_BYTES = 4 << 30


class ShardsAhead:
    """Downloads of the shards that a pass needs next; a context that stops them at its end.

    Args:
        remote: the data set.
        shards: (name, bytes) of the shards, in the order in which the pass needs them.
    """

    def __init__(self, remote: RemoteDataset, shards: Iterator[tuple[str, int]]) -> None:
        self._remote, self._shards = remote, shards
        self._most = min(remote.cache.most_bytes * _MOST_SHARE, _MOST_BYTES)
        self._ahead: dict[str, int] = {}
        self._stop = Event()
        self._pool = ThreadPoolExecutor(_THREADS, "fastcell-download")

    def reached(self, names: Sequence[str]) -> None:
        """Start further downloads, now that the pass reads these shards; 4 GiB or a quarter of the cache are ahead."""
        for name in names:
            self._ahead.pop(name, None)
        while sum(self._ahead.values()) < self._most:
            following = next(self._shards, None)
            if following is None:
                return
            name, num_bytes = following
            self._ahead[name] = num_bytes
            self._pool.submit(self._remote.fetch_early, name, num_bytes, self._stop)

    def __enter__(self) -> ShardsAhead:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | Any) -> None:
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
