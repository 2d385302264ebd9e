"""Check shard structure that cell hashes do not cover: size of the tar, tar headers, headers of blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastcell.dataset import tar
from fastcell.dataset.block_layout import make_block_header
from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError

HINT_RESTORE = "Restore it from a copy, or pack or index the data again"
NUM_HEADERS_CHECKED = 64


class HeaderChecks:
    """Check each shard after all its cells were read, when its headers are likely to be in the page cache.

    Args:
        manifest: manifest of the data set.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._names = [item["name"] for item in manifest.info.shards]
        self._left = np.bincount(manifest.shard_index + 1, minlength=len(self._names) + 1)[1:]
        self._done = np.zeros(len(self._names), dtype=bool)
        self._shapes: np.ndarray | None = None
        table = manifest.table.select(["shard", "offset", "bytes"])
        if manifest.info.layout == "block":
            table = manifest.blocks()
            self._shapes = np.stack([manifest.column("height"), manifest.column("width")], axis=1)
        numbers = {name: i for i, name in enumerate(self._names)}
        shard = table.column("shard").to_pylist()
        owner = np.fromiter((numbers.get(name, -1) for name in shard), np.int64, len(shard))
        order = np.argsort(owner, kind="stable")
        self._edges = np.searchsorted(owner[order], np.arange(len(self._names) + 1))
        names = [name for name in table.schema.names if name not in ("shard", "split")]
        self._records = {name: table.column(name).to_numpy()[order] for name in names}

    def after(self, rows: np.ndarray) -> list[str]:
        """Return the problems of the shard of `rows`, if all its cells have now been read; otherwise an empty list.

        Args:
            rows: (k,) int64, cell_ids of one shard. Each cell must be passed exactly once over all calls.
        """
        number = int(self._manifest.shard_index[rows[0]]) if len(rows) else -1
        if number < 0:
            return []
        self._left[number] -= len(rows)
        return [] if self._left[number] else self._check(number)

    def rest(self) -> list[str]:
        """Return the problems of the shards that `after` has not checked."""
        return [line for i in np.flatnonzero(~self._done).tolist() for line in self._check(i)]

    def _check(self, number: int) -> list[str]:
        self._done[number] = True
        item = self._manifest.info.shards[number]
        mine = slice(self._edges[number], self._edges[number + 1])
        records = {name: column[mine] for name, column in self._records.items()}
        found = []
        try:
            path = self._manifest.shard_path(number)
        except FileNotFoundError:
            return [f"shard {item['name']!r}: the shard is missing from {self._manifest.place}. {HINT_RESTORE}."]
        try:
            if path.exists() and not path.is_file():
                return [f"shard {item['name']!r}: it is not a file."]
            try:
                check_shard(path, records["offset"], records["bytes"], item["bytes"])
            except DataError as error:
                found.append(str(error))
            if self._shapes is not None and path.exists():
                found += self._check_blocks(path, self._shapes, records)
        except (OSError, ValueError) as error:  # ValueError: a size in a header is not a number
            reason = error.strerror if isinstance(error, OSError) else error
            found.append(f"shard {item['name']!r}: it cannot be read ({reason}).")
        return found

    def _check_blocks(self, path: Path, shapes: np.ndarray, records: dict[str, np.ndarray]) -> Iterator[str]:
        wrong = []
        with open(path, "rb") as file:
            for i, (first, num) in enumerate(zip(records["first_cell"], records["num_cells"], strict=True)):
                header = make_block_header(shapes[first : first + num], int(first))
                if os.pread(file.fileno(), len(header), int(records["offset"][i])) != header:
                    wrong.append((int(first), int(num)))
        if wrong:
            first, num = wrong[0]
            yield (
                f"shard {path.name!r}: the headers of {len(wrong)} of its {len(records['offset'])} blocks are damaged, "
                f"beginning with that of cells {first} to {first + num - 1}; other programs cannot read these blocks. "
                "Restore the shard from a copy, or pack the data again."
            )


def check_shard(path: Path, offsets: np.ndarray, sizes: np.ndarray, expected_bytes: int | None = None) -> None:
    """Check records against the tar that should contain them.

    All records are compared with the size of the file and with the 512-byte grid of a tar. For up to 64 records, spread
    over the file, the preceding tar header is read and its checksum and size are checked.

    Args:
        path: path of the tar.
        offsets: (n,) int64, offset of each record in bytes.
        sizes: (n,) int64, size of each record in bytes.
        expected_bytes: size of the file when the manifest was made; None if not known.

    Raises:
        DataError: the tar is missing, has another size, or does not contain a record.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"the shard is missing from {path.parent}. {HINT_RESTORE}.", shard=path.name) from None
    try:
        size = os.fstat(file).st_size
        if expected_bytes is not None and size != expected_bytes:
            was = f"it has {size:,} bytes, and had {expected_bytes:,} when the manifest was made"
            raise DataError(f"{was}. {HINT_RESTORE}.", shard=path.name)
        if not len(offsets):
            return
        wrong = (offsets < tar.BLOCK) | (offsets % tar.BLOCK != 0) | (sizes < 1) | (sizes > size - offsets)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise _not_there(path, int(offsets[first]), int(sizes[first]))
        order = np.argsort(offsets, kind="stable")
        for place in order[np.unique(np.linspace(0, len(order) - 1, NUM_HEADERS_CHECKED).astype(np.int64))].tolist():
            header = os.pread(file, tar.BLOCK, int(offsets[place]) - tar.BLOCK)
            if not tar.checksum_holds(header) or tar.header_size(header) != sizes[place]:
                raise _not_there(path, int(offsets[place]), int(sizes[place]))
    finally:
        os.close(file)


def _not_there(path: Path, offset: int, size: int) -> DataError:
    return DataError(f"no record of {size:,} bytes begins at byte {offset:,}. {HINT_RESTORE}.", shard=path.name)
