"""What of a shard no cell's hash covers and the loader needs all the same: its size, tar headers, heads of blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell.data.blocks import make_head
from fastcell.data.index_files import check_shard
from fastcell.data.manifest import BLOCKS_SCHEMA, Manifest
from fastcell.errors import DataError


class Heads:
    """Checks each shard once all its cells were read, when the disk need not be asked again.

    Args:
        manifest: of the data set.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._names = [item["name"] for item in manifest.info.shards]
        self._left = np.bincount(manifest.shard_index + 1, minlength=len(self._names) + 1)[1:]
        self._done = np.zeros(len(self._names), dtype=bool)
        self._broken: list[str] = []
        self._shapes: np.ndarray | None = None
        table = manifest.table.select(["shard", "offset", "bytes"])
        if manifest.info.layout == "block":
            table = self._read_blocks()
        numbers = {name: i for i, name in enumerate(self._names)}
        shard = table.column("shard").to_pylist()
        owner = np.fromiter((numbers.get(name, -1) for name in shard), np.int64, len(shard))
        order = np.argsort(owner, kind="stable")
        self._edges = np.searchsorted(owner[order], np.arange(len(self._names) + 1))
        names = [name for name in table.schema.names if name not in ("shard", "split")]
        self._records = {name: table.column(name).to_numpy()[order] for name in names}

    def after(self, rows: np.ndarray) -> list[str]:
        """Problems of the shard of `rows`, if these were the last of its cells.

        Args:
            rows: (k,) int64, cell_ids of one shard; each cell comes once.
        """
        number = int(self._manifest.shard_index[rows[0]]) if len(rows) else -1
        if number < 0:
            return []
        self._left[number] -= len(rows)
        return [] if self._left[number] else self._check(number)

    def rest(self) -> list[str]:
        """Problems of the shards that `after` has not seen, and of blocks.parquet."""
        return [*self._broken, *(line for i in np.flatnonzero(~self._done).tolist() for line in self._check(i))]

    def _read_blocks(self) -> pa.Table:
        """blocks.parquet; no row of it where it cannot be used."""
        way_out = "blocks.parquet does not fit the manifest. Pack the data again."
        try:
            table = self._manifest.blocks()
            counts = table.column("num_cells").to_numpy().astype(np.int64)
            fits = np.array_equal(table.column("first_cell").to_numpy(), np.cumsum(counts) - counts)
            blocks = np.repeat(np.arange(len(counts)), counts)
            if fits and np.array_equal(self._manifest.column("block"), blocks):
                self._shapes = np.stack([self._manifest.column("height"), self._manifest.column("width")], axis=1)
                return table
        except (DataError, ValueError) as error:  # ValueError: a negative count
            way_out = str(error)
        self._broken.append(way_out)
        return BLOCKS_SCHEMA.empty_table()

    def _check(self, number: int) -> list[str]:
        self._done[number] = True
        item = self._manifest.info.shards[number]
        path = self._manifest.path / item["name"]
        mine = slice(self._edges[number], self._edges[number + 1])
        records = {name: column[mine] for name, column in self._records.items()}
        found = []
        try:
            if path.exists() and not path.is_file():
                return [f"shard {item['name']!r}: it is not a file."]
            try:
                check_shard(path, records["offset"], records["bytes"], item["bytes"])
            except DataError as error:
                found.append(str(error))
            if self._shapes is not None and path.exists():
                found += self._check_blocks(path, self._shapes, records)
        except (OSError, ValueError) as error:  # ValueError: a size in a header that is no number
            reason = error.strerror if isinstance(error, OSError) else error
            found.append(f"shard {item['name']!r}: it cannot be read ({reason}).")
        return found

    def _check_blocks(self, path: Path, shapes: np.ndarray, records: dict[str, np.ndarray]) -> Iterator[str]:
        wrong = []
        with open(path, "rb") as file:
            for i, (first, num) in enumerate(zip(records["first_cell"], records["num_cells"], strict=True)):
                head = make_head(shapes[first : first + num], int(first))
                if os.pread(file.fileno(), len(head), int(records["offset"][i])) != head:
                    wrong.append((int(first), int(num)))
        if wrong:
            first, num = wrong[0]
            yield (
                f"shard {path.name!r}: the heads of {len(wrong)} of its {len(records['offset'])} blocks are damaged, "
                f"the first that of cells {first} to {first + num - 1}, which the loader cannot read then. Restore it "
                "from a copy, or pack the data again."
            )
