"""Check the integrity of stored cells: BLAKE2b-128 of each cell's bytes against the manifest.

Bytes that these hashes do not cover are not checked here: tar headers, label files beside a cell, the header of a block
(see `fastcell.dataset.shard_structure`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import blake2b
from threading import Event
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.byte_values import byte_values
from fastcell.system.text import align_columns

WHOLE, CHANGED, SHORT, MISSING, UNREADABLE, UNKNOWN = range(6)
REASONS = (
    "",
    "other bytes than were packed",
    "the shard ends before it",
    "the shard is missing",
    "the shard cannot be read",
    "the manifest does not say where it is, or has no hash of it",
)
"""Meaning of each code that `check_stored_bytes` returns."""

_READ_BYTES = 1 << 22
_MAX_GAP_BYTES = 1 << 16
_PART_CELLS = 4_096
_HASH_BYTES = 16
_UNLABELLED = "(unlabelled)"
_MOST_LINES = 20

Rows = npt.NDArray[np.int64]
Report = Callable[[Rows, int], object]


class CorruptCell(NamedTuple):
    """A corrupt cell: its cell_id, and one of `REASONS`."""

    cell_id: int
    reason: str


class _Cells(NamedTuple):
    """Manifest columns of the rows to be checked, (n,) each.

    Attributes:
        names: names of the shards.
        shard: index into `names`.
        offset: offset of the stored bytes.
        size: number of stored bytes.
        digest: (n, 16) uint8, hash of the stored bytes.
        known: False for a cell for which any of these values is unknown.
    """

    names: list[str]
    shard: Rows
    offset: Rows
    size: Rows
    digest: npt.NDArray[np.uint8]
    known: npt.NDArray[np.bool_]


def check_stored_bytes(
    manifest: Manifest, rows: npt.ArrayLike | None = None, *, jobs: int = 1, report: Report | None = None
) -> npt.NDArray[np.uint8]:
    """Compare the stored bytes of cells with the manifest's hashes.

    Each shard is read in the order of offsets with `pread`, at most 4 MiB at a time. A cell larger than 4 MiB is read
    alone and hashed 4 MiB at a time. At most `jobs` files are open. A shard that is missing, shrinks during the check
    or cannot be read is reported as a finding, not raised as an error.

    Args:
        manifest: manifest of the data set, in either layout.
        rows: (n,) cell_ids, 0 to N - 1, in any order; None: all cells.
        jobs: number of threads, >= 1.
        report: called in the calling thread after each part (cells of one shard) with their cell_ids, (k,) int64, and
            the number of their bytes.

    Returns:
        (n,) uint8, in the order of `rows`: 0 (`WHOLE`) for an intact cell, otherwise the index of the reason in
        `REASONS`.

    Raises:
        IndexError: a row does not exist.
    """
    chosen = None if rows is None else np.asarray(rows, dtype=np.int64).reshape(-1)
    cells = _columns(manifest, chosen)
    ids = np.arange(len(manifest)) if chosen is None else chosen
    order = np.lexsort((cells.offset, cells.shard))
    parts = [order[part] for part in _parts(cells.shard[order])]
    codes = np.full(len(ids), WHOLE, np.uint8)
    stop = Event()
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            running = {pool.submit(_check_part, manifest, cells, part, stop): part for part in parts}
            for future in as_completed(running):
                part = running[future]
                codes[part], num_bytes = future.result()
                if report is not None:
                    report(ids[part], num_bytes)
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return codes


def still_corrupt(manifest: Manifest, reasons: dict[int, str]) -> dict[int, str]:
    """Check cells that were corrupt before, and return those that still are, with the present reason.

    A cell with the right bytes but without a decodable image keeps its reason while its bytes are unchanged.

    Args:
        manifest: manifest of the data set.
        reasons: reason by cell_id.
    """
    rows = np.array(sorted(reasons), np.int64)
    codes = check_stored_bytes(manifest, rows)
    now = {row: REASONS[code] for row, code in zip(rows.tolist(), codes.tolist(), strict=True) if code != WHOLE}
    others = {row: text for row, text in reasons.items() if row not in now and text not in REASONS}
    return {**now, **others}


@dataclass(frozen=True)
class IntegrityReport:
    """Corrupt cells among the cells that were checked.

    Attributes:
        manifest: manifest of the data set.
        rows: (n,) int64, the cell_ids that were checked.
        codes: (n,) uint8, from `check_stored_bytes`.
    """

    manifest: Manifest
    rows: Rows
    codes: npt.NDArray[np.uint8]

    @property
    def cell_ids(self) -> Rows:
        """(m,) int64, the corrupt cells, in the order of `rows`."""
        return self.rows[self.codes != WHOLE]

    def __len__(self) -> int:
        return int((self.codes != WHOLE).sum())

    def __iter__(self) -> Iterator[CorruptCell]:
        for cell_id, code in zip(self.cell_ids.tolist(), self.codes[self.codes != WHOLE].tolist(), strict=True):
            yield CorruptCell(cell_id, REASONS[code])

    def table(self) -> pa.Table:
        """Return one row per corrupt cell, sorted by cell_id.

        Columns: cell_id (int64), key, shard, class (null: no class), reason.
        """
        order = np.argsort(self.cell_ids, kind="stable")
        table = self.manifest.select_cells(["cell_id", "key", "shard", "class"], self.cell_ids[order])
        reasons = pa.array([REASONS[code] for code in self.codes[self.codes != WHOLE][order]], pa.string())
        return table.append_column("reason", reasons)

    def describe(self, num_keys: int = 5) -> list[str]:
        """List the corrupt cells by shard and reason and by class, each with its share, and the first keys.

        Args:
            num_keys: number of keys to list.

        Returns:
            The lines; an empty list if no cell is corrupt.
        """
        if not len(self):
            return []
        lost = self.table()
        in_shard, in_class = self._checked("shard"), self._checked("class")
        groups = lost.group_by(["shard", "reason"]).aggregate([([], "count_all")]).to_pylist()
        rows = [["shard", "lost", "of", "reason"]]
        for group in sorted(groups, key=lambda group: (group["shard"] or "", group["reason"])):
            words = (f"{group['count_all']:,}", f"{in_shard[group['shard']]:,}")
            rows.append([group["shard"] or "(none)", *words, group["reason"]])
        lines = [*_ended_table(rows), ""]
        rows = [["class", "lost", "of", "share"]]
        for name, num in sorted(_counts(lost.column("class")).items(), key=lambda pair: pair[0] or ""):
            rows.append([name or _UNLABELLED, f"{num:,}", f"{in_class[name]:,}", f"{100 * num / in_class[name]:.2f} %"])
        keys = ", ".join(map(str, lost.column("key").slice(0, num_keys).to_pylist()))
        more = f" and {len(self) - num_keys:,} more" if len(self) > num_keys else ""
        return [*lines, *_ended_table(rows), "", f"lost: {keys}{more}"]

    def _checked(self, column: str) -> dict[str | None, int]:
        return _counts(self.manifest.select_cells([column], self.rows).column(column))


def _counts(column: pa.ChunkedArray) -> dict[str | None, int]:
    return {pair["values"]: pair["counts"] for pair in column.value_counts().to_pylist()}


def _ended_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return at most 20 aligned lines; the last column is text."""
    shown = rows[: _MOST_LINES + 1]
    lines = [
        f"{front}  {row[-1]}" for front, row in zip(align_columns([row[:-1] for row in shown]), shown, strict=True)
    ]
    return lines if len(rows) == len(shown) else [*lines, f"and {len(rows) - len(shown):,} more"]


def _columns(manifest: Manifest, rows: Rows | None) -> _Cells:
    wanted = ["shard", "offset", "bytes", "byte_hash"]
    table = manifest.table.select(wanted) if rows is None else manifest.select_cells(wanted, rows)
    shard, hashes = table.column("shard"), table.column("byte_hash")
    offset, size = (table.column(name).fill_null(-1).to_numpy() for name in ("offset", "bytes"))
    names = shard.unique().drop_null()
    number = pc.index_in(shard, value_set=names).fill_null(-1).to_numpy().astype(np.int64)
    known = (offset >= 0) & (size > 0) & (number >= 0) & ~hashes.is_null().to_numpy()
    return _Cells(names.to_pylist(), number, offset, size, byte_values(hashes), known)


def _parts(shard: Rows) -> list[slice]:
    """Return slices of at most 4,096 cells of one shard."""
    ends = [*(np.flatnonzero(np.diff(shard)) + 1).tolist(), len(shard)]
    starts = [0, *ends[:-1]]
    return [
        slice(first, min(first + _PART_CELLS, end))
        for start, end in zip(starts, ends, strict=True)
        for first in range(start, end, _PART_CELLS)
    ]


def _check_part(manifest: Manifest, cells: _Cells, part: Rows, stop: Event) -> tuple[npt.NDArray[np.uint8], int]:
    """Return the codes of cells of one shard, sorted by offset, and the number of their bytes."""
    while True:
        codes, num_bytes, is_final = _check_once(manifest, cells, part, stop)
        if is_final:
            return codes, num_bytes


def _check_once(manifest: Manifest, cells: _Cells, part: Rows, stop: Event) -> tuple[npt.NDArray[np.uint8], int, bool]:
    """Return what `_check_part` returns, and False if the shard is to be downloaded and checked again."""
    codes = np.full(len(part), UNKNOWN, np.uint8)
    known = np.flatnonzero(cells.known[part])
    if not len(known):
        return codes, 0, True
    part = part[known]
    name = cells.names[cells.shard[part[0]]]
    handle, codes[known] = _open(manifest, name)
    if handle is None:
        return codes, 0, True
    try:
        offsets, sizes = cells.offset[part], cells.size[part]
        for start, end in _reads(offsets, sizes):
            if stop.is_set():
                break
            found = _check_read(handle, offsets[start:end], sizes[start:end], cells.digest[part[start:end]])
            codes[known[start:end]] = found
        is_wrong = bool(np.isin(codes, (CHANGED, SHORT)).any())
        remote = manifest.remote if is_wrong else None
        again = remote is not None and remote.fetch_again(name, manifest.shard_sizes[name], handle)
        return codes, int(sizes.sum()), not again
    finally:
        os.close(handle)


def _open(manifest: Manifest, name: str) -> tuple[int | None, int]:
    """Return the file descriptor of a shard, or None and the code of the reason."""
    try:
        handle = manifest.open_shard(name)
    except (FileNotFoundError, NotADirectoryError):
        return None, MISSING
    except OSError:
        return None, UNREADABLE
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle, WHOLE
    os.close(handle)
    return None, UNREADABLE


def _reads(offsets: Rows, sizes: Rows) -> Iterator[tuple[int, int]]:
    """Yield ranges of neighbouring cells to be read together, up to 4 MiB; a larger cell forms a range of its own."""
    start = 0
    ends = np.maximum.accumulate(offsets + sizes)
    while start < len(offsets):
        limit = offsets[start] + _READ_BYTES
        end = max(start + 1, int(np.searchsorted(ends, limit, side="right")))
        gaps = np.flatnonzero(offsets[start + 1 : end] > ends[start : end - 1] + _MAX_GAP_BYTES)
        if len(gaps):
            end = start + 1 + int(gaps[0])
        yield start, end
        start = end


def _check_read(handle: int, offsets: Rows, sizes: Rows, digests: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the codes of cells that are read together."""
    if len(offsets) == 1 and sizes[0] > _READ_BYTES:
        return np.array([_check_large(handle, int(offsets[0]), int(sizes[0]), digests[0].tobytes())], np.uint8)
    first = int(offsets[0])
    try:
        data = _pread(handle, int((offsets + sizes).max()) - first, first)
    except OSError:
        if len(offsets) == 1:
            return np.array([UNREADABLE], np.uint8)
        alone = [
            slice(i, i + 1) for i in range(len(offsets))
        ]  # one at a time, so that a bad sector affects only its own cells
        return np.concatenate([_check_read(handle, offsets[i], sizes[i], digests[i]) for i in alone])
    view = memoryview(data)
    starts = (offsets - first).tolist()
    ends = (offsets - first + sizes).tolist()
    found = b"".join(
        [blake2b(view[start:end], digest_size=16).digest() for start, end in zip(starts, ends, strict=True)]
    )
    same = (np.frombuffer(found, np.uint8).reshape(-1, _HASH_BYTES) == digests).all(axis=1)
    short = np.asarray(ends) > len(data)
    return np.where(short, SHORT, np.where(same, WHOLE, CHANGED)).astype(np.uint8)


def _check_large(handle: int, offset: int, size: int, expected: bytes) -> int:
    digest, end = blake2b(digest_size=_HASH_BYTES), offset + size
    while offset < end:
        try:
            data = os.pread(handle, min(_READ_BYTES, end - offset), offset)
        except OSError:
            return UNREADABLE
        if not data:
            return SHORT
        digest.update(data)
        offset += len(data)
    return WHOLE if digest.digest() == expected else CHANGED


def _pread(handle: int, size: int, offset: int) -> bytes:
    """Read `size` bytes, fewer only at the end of the file."""
    data = os.pread(handle, size, offset)
    while len(data) < size:
        more = os.pread(handle, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
