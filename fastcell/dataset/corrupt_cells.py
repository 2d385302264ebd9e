"""Record and replace corrupt cells: cells whose stored bytes differ from the bytes that were packed.

By default a corrupt cell does not end a run. In a batch it is replaced, with weight 0, by the first good cell
(`stand_in`). It is replaced by a blank cell (`blank_cell`) if the batch has no good cell, or if the replacement must
have the same size in memory.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError, invalid
from fastcell.system.own_memory import own_zeros
from fastcell.system.text import join_lines, printable

OnBadCell = Literal["replace", "error"]

logger = logging.getLogger(__name__)

ON_BAD_CELL: tuple[OnBadCell, ...] = get_args(OnBadCell)

HINT_RESTORE = "Restore the shard from a copy, or pack the data again"

#: Largest share of corrupt cells before a run stops. A larger share points to a wrong folder or a disconnected disk.
MOST_CORRUPT = 0.5


class CorruptCells:
    """Corrupt cells of a data set that one process has found so far. Thread-safe.

    Args:
        manifest: manifest of the data set.
        on_bad_cell: ``replace`` continues the run, ``error`` stops it at the first corrupt cell.

    Attributes:
        is_corrupt: (N,) bool, one value for each row of the manifest.

    Raises:
        ArgumentError: `on_bad_cell` has another value.
    """

    def __init__(self, manifest: Manifest, on_bad_cell: str = "replace") -> None:
        if on_bad_cell not in ON_BAD_CELL:
            raise invalid("on_bad_cell", f"one of {', '.join(ON_BAD_CELL)}", on_bad_cell, "Leave it at replace")
        self.manifest, self.on_bad_cell = manifest, on_bad_cell
        self.is_corrupt = own_zeros(len(manifest), bool)
        self._reasons: dict[int, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def reasons(self) -> dict[int, str]:
        """Reason by cell_id, as a copy."""
        with self._lock:
            return dict(self._reasons)

    def add(self, reasons: dict[int, str]) -> None:
        """Record corrupt cells. A cell that is already recorded keeps its first reason.

        Raises:
            DataError: `on_bad_cell` is ``error`` (the error names shard and key of the first cell), more than half of
                the data set is corrupt, or no shard of the data set exists any more.
        """
        with self._lock:
            news = {cell_id: reason for cell_id, reason in reasons.items() if cell_id not in self._reasons}
            self._reasons.update(news)
            self.is_corrupt[list(news)] = True
        if not news:
            return
        first = min(news)
        if not self.manifest.has_shards():
            raise DataError(f"{self.manifest.place}: none of its shards exists any more. Check the disk.")
        if self.on_bad_cell == "error":
            raise self._error(first, f"{news[first]}. {HINT_RESTORE}")
        if len(self) > MOST_CORRUPT * len(self.is_corrupt):
            raise self._error(
                first,
                f"{news[first]}, and {len(self):,} of {len(self.is_corrupt):,} cells are corrupt. Check that "
                f"{self.manifest.place} is the right folder, and its disk",
            )
        by_shard: dict[int, Counter[str]] = defaultdict(Counter)
        for shard, reason in zip(self.manifest.shards_of(np.array(list(news))).tolist(), news.values(), strict=True):
            by_shard[shard][reason] += 1
        for shard, found in by_shard.items():
            logger.warning(
                "%s: %d corrupt cell%s found, replaced with weight 0 (%s)",
                printable(self.manifest.info.shards[shard]["name"]),
                found.total(),
                "s" * (found.total() > 1),
                _most(found),
            )

    def restore(self, reasons: dict[int, str]) -> None:
        """Record the corrupt cells that an earlier process of the same run has found, without a message.

        Raises:
            DataError: there are corrupt cells, and `on_bad_cell` is ``error``.
        """
        with self._lock:
            self._reasons = {**reasons, **self._reasons}
            self.is_corrupt[list(reasons)] = True
        if reasons and self.on_bad_cell == "error":
            first = min(reasons)
            raise self._error(first, f"{reasons[first]}. {HINT_RESTORE}")

    def table(self) -> pa.Table:
        """Return one row per corrupt cell, sorted by cell_id.

        Columns: cell_id (int64), key, shard, class (null: no class), reason.
        """
        return corrupt_cells_table(self.manifest, self.reasons)

    def _error(self, cell_id: int, message: str) -> DataError:
        row = self.manifest.table.slice(cell_id, 1).to_pylist()[0]
        return DataError(f"{message}.", row["shard"], row["key"])


def corrupt_cells_table(manifest: Manifest, reasons: dict[int, str]) -> pa.Table:
    """Return the table of `CorruptCells.table` for reasons by cell_id."""
    ids = sorted(reasons)
    cells = manifest.select_cells(["cell_id", "key", "shard", "class"], ids)
    return cells.append_column("reason", pa.array([reasons[cell_id] for cell_id in ids], pa.string()))


def stand_in(chosen: np.ndarray, is_good: np.ndarray) -> np.ndarray:
    """Replace each corrupt cell of a batch by the first good one.

    Args:
        chosen: (B,) numbers that identify the cells of a batch, e.g. cell_ids or positions.
        is_good: (B,) bool, False for the corrupt ones.

    Returns:
        (B,) `chosen` where `is_good` is True, elsewhere the first good entry. If no cell is good, the first entry.
    """
    return np.where(is_good, chosen, chosen[np.argmax(is_good)])


def blank_cell(height: int, width: int, depth: int) -> np.ndarray:
    """Return an image of uniform grey, (H, W, 1) uint8, or uint16 for a depth of 16.

    The image is not black because images are divided by their mean.
    """
    return np.full((height, width, 1), 128 if depth == 8 else 128 * 257, np.uint8 if depth == 8 else np.uint16)


def describe_corrupt_cells(table: pa.Table, most: int = 5) -> str:
    """Return lines with the number of corrupt cells by reason, shard and class; the `most` most frequent of each."""
    lines = [f"{table.num_rows:,} corrupt cell{'s' * (table.num_rows != 1)} replaced with weight 0, counted nowhere:"]
    for name, title in (("reason", ""), ("shard", "by shard: "), ("class", "by class: ")):
        counts = Counter(pc.fill_null(table.column(name), "(none)").to_pylist())
        lines.append(f"  {title}{_most(counts, most)}")
    return join_lines(lines)


def _most(counts: Counter[str], most: int = 3) -> str:
    listed = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(most))
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(most))
    return listed + (f", others {rest:,}" if rest else "")
