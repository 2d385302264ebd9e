"""Read the stored bytes of cells from their tars: few large reads, few open files, any number of shards."""

from __future__ import annotations

import os
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from fastcell.dataset.integrity import MISSING, REASONS, SHORT, UNREADABLE
from fastcell.dataset.manifest import Manifest

#: Largest number of tars that one reader keeps open.
MOST_OPEN = 16

_GAP = 1 << 14  # bytes: a gap up to this size between two cells is read together with them
_MOST_AT_ONCE = 1 << 22
_DOWNLOADS = 8

Stamp = tuple[int, int, int]


class Stored(NamedTuple):
    """Stored bytes of several cells.

    Attributes:
        cell_ids: (n,) int64, increasing.
        buffer: (bytes,) uint8, the bytes of all cells.
        starts: (n,) int64, start of each cell in `buffer`.
        sizes: (n,) int64, bytes.
        reasons: reason by cell_id for the cells that could not be read; their bytes are undefined.
    """

    cell_ids: np.ndarray
    buffer: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    reasons: dict[int, str]

    def bytes_of(self, place: int) -> np.ndarray:
        """Return the bytes of the cell at index `place` of `cell_ids`, (bytes,) uint8, without a copy."""
        start = int(self.starts[place])
        return self.buffer[start : start + int(self.sizes[place])]


class ShardFiles:
    """Reader of the stored bytes of one data set; for one thread at a time.

    Files are not mapped into memory, so that a tar that shrinks or disappears yields a reason instead of a signal.

    Args:
        manifest: manifest of the data set.
        stamps: size, modification time and inode of the tars checked so far, by shard index; updated in place. Pass the
            same dictionary to successive readers to detect changes between them.
        by_range: indices of the shards at an address of which only the bytes of the cells are downloaded.
        allocate: function from a number of bytes to the memory, uint8, that is read into; None for plain memory.
    """

    def __init__(
        self,
        manifest: Manifest,
        stamps: dict[int, Stamp | None],
        by_range: frozenset[int] = frozenset(),
        allocate: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self._manifest, self._by_range = manifest, by_range
        self._allocate = allocate or partial(np.empty, dtype=np.uint8)
        self._offset, self._bytes = manifest.column("offset"), manifest.column("bytes")
        self._open: OrderedDict[int, int] = OrderedDict()
        self._stamps = stamps

    def read(self, cell_ids: np.ndarray) -> Stored:
        """Read the stored bytes of cells.

        Args:
            cell_ids: (n,) int64, increasing, without repeats.
        """
        if not len(cell_ids):
            none = np.empty(0, np.int64)
            return Stored(none, np.empty(0, np.uint8), none, none, {})
        shard = self._manifest.shards_of(cell_ids)
        order = np.lexsort((self._offset[cell_ids], shard))
        in_file = cell_ids[order]
        shard, begin = shard[order], self._offset[in_file]
        end = begin + self._bytes[in_file]
        new = np.ones(len(in_file), bool)
        gap = begin[1:] - end[:-1]
        new[1:] = (np.diff(shard) != 0) | (gap < 0) | (gap > _GAP)
        new[1:] |= np.diff(begin // _MOST_AT_ONCE) > 0
        firsts = np.flatnonzero(new)
        lasts = np.append(firsts[1:], len(in_file)) - 1
        lengths = end[lasts] - begin[firsts]
        places = np.cumsum(lengths) - lengths
        buffer = self._allocate(int(lengths.sum()))
        starts = begin - np.repeat(begin[firsts] - places, lasts - firsts + 1)
        reasons: dict[int, str] = {}
        apart = self._download_runs(shard[firsts], begin[firsts], lengths) if self._by_range else {}
        for first, last, place, length in zip(
            firsts.tolist(), lasts.tolist(), places.tolist(), lengths.tolist(), strict=True
        ):
            part = slice(first, last + 1)
            target = buffer[place : place + length]
            run = in_file[part], begin[part], end[part], target, reasons
            self._read_run(int(shard[first]), *run, downloaded=apart.get((int(shard[first]), int(begin[first]))))
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return Stored(cell_ids, buffer, starts[back], self._bytes[cell_ids], reasons)

    def changed(self, shards: np.ndarray) -> list[int]:
        """Return the indices of the shards whose files have changed since the last call.

        Args:
            shards: (n,) int64, indices of the shards to check.
        """
        news = []
        for number in shards.tolist():
            stamp = self._stamp(number)
            if number in self._stamps and self._stamps[number] != stamp:
                news.append(number)
                self._close(number)
            self._stamps[number] = stamp
        return news

    def fetch_again(self, shards: np.ndarray) -> bool:
        """Download again those shards at an address that have wrong bytes, each at most once.

        Args:
            shards: (n,) int64, indices of the shards.

        Returns:
            Whether any of them will be downloaded at the next `read`.
        """
        remote, news = self._manifest.remote, False
        for number in np.unique(shards).tolist() if remote is not None else ():
            item = self._manifest.info.shards[number]
            if number in self._by_range or remote is None or number not in self._open:
                continue
            if remote.fetch_again(item["name"], item["bytes"], self._open[number]):
                self._close(number)
                news = True
        return news

    def close(self) -> None:
        """Close the tars; a later `read` opens them again."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        if hasattr(self, "_open"):
            self.close()

    def _read_run(
        self,
        shard: int,
        cell_ids: np.ndarray,
        begin: np.ndarray,
        end: np.ndarray,
        target: np.ndarray,
        reasons: dict[int, str],
        downloaded: bytes | OSError | None = None,
    ) -> None:
        try:
            if isinstance(downloaded, OSError):
                raise downloaded
            if downloaded is not None:
                got = len(downloaded)
                target[:got] = np.frombuffer(downloaded, np.uint8)
            else:
                got = _read_into(self._file(shard), target, int(begin[0]))
        except OSError as error:
            if (
                len(cell_ids) > 1 and shard in self._open
            ):  # one cell at a time, so that a bad sector affects only its own cells
                for place in range(len(cell_ids)):
                    one = slice(place, place + 1)
                    part = target[int(begin[place] - begin[0]) : int(end[place] - begin[0])]
                    self._read_run(shard, cell_ids[one], begin[one], end[one], part, reasons)
                return
            reason = MISSING if isinstance(error, (FileNotFoundError, NotADirectoryError)) else UNREADABLE
            reasons.update(dict.fromkeys(cell_ids.tolist(), REASONS[reason]))
            return
        if got < len(target):
            missing = cell_ids[end - begin[0] > got]
            reasons.update(dict.fromkeys(missing.tolist(), REASONS[SHORT]))

    def _download_runs(
        self, shard: np.ndarray, begin: np.ndarray, lengths: np.ndarray
    ) -> dict[tuple[int, int], bytes | OSError]:
        """Download the runs of the shards that are read by range, several shards at a time, by shard and offset."""
        remote, places = self._manifest.remote, defaultdict(list)
        assert remote is not None
        for number, start, length in zip(shard.tolist(), begin.tolist(), lengths.tolist(), strict=True):
            if number in self._by_range:
                places[number].append((start, start + length))

        def download(number: int) -> dict[tuple[int, int], bytes | OSError]:
            item, wanted = self._manifest.info.shards[number], places[number]
            try:
                got: Sequence[bytes | OSError] = remote.read_ranges(item["name"], item["bytes"], wanted)
            except OSError as error:
                got = [error] * len(wanted)
            return {(number, start): part for (start, _), part in zip(wanted, got, strict=True)}

        with ThreadPoolExecutor(_DOWNLOADS, "fastcell-ranges") as pool:
            return {place: part for parts in pool.map(download, places) for place, part in parts.items()}

    def _file(self, shard: int) -> int:
        if shard not in self._open:
            if len(self._open) >= MOST_OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[shard] = self._manifest.open_shard(self._manifest.info.shards[shard]["name"])
        self._open.move_to_end(shard)
        return self._open[shard]

    def _close(self, shard: int) -> None:
        if shard in self._open:
            os.close(self._open.pop(shard))

    def _stamp(self, shard: int) -> Stamp | None:
        if shard in self._by_range:
            return 0, 0, 0
        try:
            if self._manifest.remote is None:
                status = self._manifest.shard_path(shard).stat()
            else:  # what is open stays readable when the cache makes room
                status = os.fstat(self._file(shard))
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns, status.st_ino


def _read_into(file: int, target: np.ndarray, offset: int) -> int:
    """Fill `target` with the bytes of a file from `offset` on; return the number of bytes read."""
    done = 0
    while done < len(target):
        got = os.preadv(file, [target[done:].data], offset + done)
        if got == 0:
            break
        done += got
    return done
