"""Corrupt cells: cells whose stored bytes are not those that were packed. Which, why, and what stands in for them.

A corrupt cell never ends a run unless that is asked for. In a batch the first good cell stands in for it, with weight 0
(`stand_in`); where there is none, or where its place in memory must keep its size, a blank one (`blank_cell`).
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

OnBadCell = Literal["replace", "error"]

logger = logging.getLogger(__name__)

ON_BAD_CELL: tuple[OnBadCell, ...] = get_args(OnBadCell)

HINT_RESTORE = "Restore the shard from a copy, or pack the data again"

#: Share of a data set's cells that may be corrupt before a run stops: more is a wrong folder or a disk that went away.
MOST_CORRUPT = 0.5


class CorruptCells:
    """The corrupt cells of a data set, as one process has found them. Threads may share it.

    Args:
        manifest: of the data set.
        on_bad_cell: ``replace`` lets a run go on, ``error`` stops it at the first loss.

    Attributes:
        is_corrupt: (N,) bool, for every row of the manifest.

    Raises:
        ArgumentError: another `on_bad_cell`.
    """

    def __init__(self, manifest: Manifest, on_bad_cell: str = "replace") -> None:
        if on_bad_cell not in ON_BAD_CELL:
            raise invalid("on_bad_cell", f"one of {', '.join(ON_BAD_CELL)}", on_bad_cell, "Leave it at replace")
        self.manifest, self.on_bad_cell = manifest, on_bad_cell
        self.is_corrupt = np.zeros(len(manifest), bool)
        self._reasons: dict[int, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def reasons(self) -> dict[int, str]:
        """Reason by cell_id, a copy."""
        with self._lock:
            return dict(self._reasons)

    def add(self, reasons: dict[int, str]) -> None:
        """Take note of corrupt cells; the first reason of a cell stays.

        Raises:
            DataError: with ``error``, naming shard and key of the first; with ``replace``, where more than half of the
                data set is corrupt.
        """
        with self._lock:
            news = {cell_id: reason for cell_id, reason in reasons.items() if cell_id not in self._reasons}
            self._reasons.update(news)
            self.is_corrupt[list(news)] = True
        if not news:
            return
        first = min(news)
        if not any(self.manifest.shard_path(number).exists() for number in range(len(self.manifest.info.shards))):
            raise DataError(f"{self.manifest.path}: none of its shards is there any more. Look after the disk.")
        if self.on_bad_cell == "error":
            raise self._error(first, f"{news[first]}. {HINT_RESTORE}")
        if len(self) > MOST_CORRUPT * len(self.is_corrupt):
            raise self._error(
                first,
                f"{news[first]}, and {len(self):,} cells of the {len(self.is_corrupt):,} are lost by "
                f"now. Look whether {self.manifest.path} is the right folder and its disk is there",
            )
        by_shard: dict[int, Counter[str]] = defaultdict(Counter)
        for shard, reason in zip(self.manifest.shard_index[list(news)].tolist(), news.values(), strict=True):
            by_shard[shard][reason] += 1
        for shard, found in by_shard.items():
            logger.warning(
                "%s: %d bad cell%s found, replaced with weight 0 (%s)",
                self.manifest.info.shards[shard]["name"],
                found.total(),
                "s" * (found.total() > 1),
                _most(found),
            )

    def table(self) -> pa.Table:
        """One row per corrupt cell, sorted by cell_id: cell_id (int64), key, shard, class (null: none), reason."""
        return corrupt_cells_table(self.manifest, self.reasons)

    def _error(self, cell_id: int, message: str) -> DataError:
        row = self.manifest.table.slice(cell_id, 1).to_pylist()[0]
        return DataError(f"{message}.", row["shard"], row["key"])


def corrupt_cells_table(manifest: Manifest, reasons: dict[int, str]) -> pa.Table:
    """As `CorruptCells.table`, for a reason by cell_id."""
    ids = sorted(reasons)
    cells = manifest.table.select(["cell_id", "key", "shard", "class"]).take(pa.array(ids, pa.int64()))
    return cells.append_column("reason", pa.array([reasons[cell_id] for cell_id in ids], pa.string()))


def stand_in(chosen: np.ndarray, is_good: np.ndarray) -> np.ndarray:
    """Put the first good cell of a batch in the place of each corrupt one.

    Args:
        chosen: (B,) numbers of the cells of a batch, of any kind.
        is_good: (B,) bool, False for the corrupt ones.

    Returns:
        (B,) `chosen` where it is good, else its first good entry; its first entry where none is good.
    """
    return np.where(is_good, chosen, chosen[np.argmax(is_good)])


def blank_cell(height: int, width: int, depth: int) -> np.ndarray:
    """(H, W, 1) of one grey level, uint8 or, at depth 16, uint16; not black, for images are divided by their mean."""
    return np.full((height, width, 1), 128 if depth == 8 else 128 * 257, np.uint8 if depth == 8 else np.uint16)


def describe_corrupt_cells(table: pa.Table, most: int = 5) -> str:
    """Return lines with the number of corrupt cells, by reason, shard and class; the `most` commonest of each."""
    lines = [f"{table.num_rows:,} bad cell{'s' * (table.num_rows != 1)} replaced with weight 0, counted nowhere:"]
    for name, title in (("reason", ""), ("shard", "by shard: "), ("class", "by class: ")):
        counts = Counter(pc.fill_null(table.column(name), "(none)").to_pylist())
        lines.append(f"  {title}{_most(counts, most)}")
    return "\n".join(lines)


def _most(counts: Counter[str], most: int = 3) -> str:
    listed = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(most))
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(most))
    return listed + (f", others {rest:,}" if rest else "")
