"""Save the predictions of a long run in parts beside the output, so that an interrupted run can resume.

A part holds whole chunks of the view. The predictions of a chunk do not depend on the run or the rank that made them.
Cells that could not be read are checked again when the run resumes: repaired cells are predicted, the others get the
present reason.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from fastcell.dataset.cell_hashes import hashes_of
from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.integrity import still_corrupt
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import PART_ROWS
from fastcell.dataset.schema import FORMAT_VERSION
from fastcell.errors import DataError
from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.storage.saved_pieces import load_pieces, map_pieces, save_pieces
from fastcell.storage.staging import Staging, describe_job, open_staging_of

if TYPE_CHECKING:
    from fastcell.predictions.growing_table import GrowingTable

SAVE_EVERY_S = 30.0
_SPAN_CELLS = 1 << 18
UNLIKE_PIECES = ("unlike_score", "off_first", "off_second")
"""Columns of saved parts: scores, and the two columns of features outside their usual range
(`fastcell.inference.unlike.reasons`).
"""


@contextmanager
def saved_parts(
    out: Path, manifest: Manifest, checkpoint: Path, settings: dict[str, Any], say: Callable[[str], None]
) -> Iterator[Staging]:
    """Open the folder for the parts of one output file, including parts saved by an interrupted run of the same job.

    Args:
        out: path of the output file.
        manifest: manifest of the data set.
        checkpoint: file from which the model was loaded.
        settings: all other settings that the predictions depend on, as JSON values.
        say: function that is called with one line for the user.

    Yields:
        The staging folder.

    Raises:
        BusyError: If another run writes the same file.
    """
    job = {
        **describe_job("predict", FORMAT_VERSION),
        "cells": _hash_of_cells(manifest),
        "checkpoint": blake2b(checkpoint.read_bytes(), digest_size=16).hexdigest(),
        "torch": importlib.metadata.version("torch"),
        **settings,
    }
    with open_staging_of(out, say) as stage:
        stage.begin(job)
        yield stage


def _hash_of_cells(manifest: Manifest) -> str:
    digest = blake2b(digest_size=16)
    for part in np.array_split(hashes_of(manifest), len(manifest) // PART_ROWS + 1):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


class SavedPredictions(NamedTuple):
    """Predictions of N cells.

    Attributes:
        cell_ids: (N,) int64, increasing.
        probabilities: (N, K) float32.
        unlike: scores of the cells; NaN for cells that were not scored.
    """

    cell_ids: np.ndarray
    probabilities: np.ndarray
    unlike: UnlikeScores


class PartStore:
    """Predictions of one process, saved about every 30 s, and those of all processes and interrupted runs.

    Args:
        corrupt_cells: corrupt cells found by the reader of this process.

    Attributes:
        reasons: reason for each corrupt cell that other processes and earlier runs have found, by cell_id, after
            `take_over` and `read_reasons`.
        growing: table that the predictions are also added to; None for none, and if some come from an earlier run.
    """

    def __init__(self, corrupt_cells: CorruptCells) -> None:
        self.corrupt_cells = corrupt_cells
        self.growing: GrowingTable | None = None
        self.reasons: dict[int, str] = {}
        self._earlier: set[Path] = set()
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._folder = Path()
        self._number, self._last, self._prefix = 0, time.monotonic(), ""

    def take_over(self, folder: Path) -> np.ndarray:
        """Read the parts of earlier runs and return the cell_ids that are done, predicted or still corrupt, (n,) int64.

        Damaged parts are removed.

        Args:
            folder: folder of the parts, `Staging.saved_dir`.
        """
        predicted: list[np.ndarray] = [np.empty(0, np.int64)]
        reasons: dict[int, str] = {}
        for path in sorted(folder.glob("*.saved")):
            part = load_pieces(path, "")
            if part is None:
                path.unlink()
                continue
            self._earlier.add(path)
            predicted.append(part.tables[0].column("cell_id").to_numpy().copy())  # a view would keep the whole part
            reasons |= {int(cell_id): reason for cell_id, reason in part.facts["reasons"].items()}
        done = np.unique(np.concatenate(predicted))
        if self._earlier:
            self.stop_growing()
        if reasons:
            kept = still_corrupt(self.corrupt_cells.manifest, reasons)
            ids = np.fromiter(kept, np.int64, len(kept))
            self.reasons = {cell_id: kept[cell_id] for cell_id in ids[~np.isin(ids, done)].tolist()}
        return np.union1d(done, np.array(list(self.reasons), np.int64))

    def begin(self, folder: Path, rank: int = 0) -> None:
        """Start to save parts in a folder that is visible to all ranks."""
        self._folder = folder
        self._prefix = f"{time.time_ns():020d}-{rank:04d}"
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the last part was saved 30 s ago or more."""
        return time.monotonic() - self._last >= SAVE_EVERY_S

    def add(self, cell_ids: np.ndarray, probabilities: np.ndarray, unlike: UnlikeScores | None = None) -> None:
        """Add the predictions of cells: ids (n,) int64, probabilities (n, K) float32 and scores of n cells, if any."""
        unlike = unlike or UnlikeScores.none(len(cell_ids))
        self._parts.append((cell_ids, probabilities, *unlike))
        if self.growing is not None:
            self.growing.add(cell_ids, probabilities, unlike)

    @property
    def all_reasons(self) -> dict[int, str]:
        """Reason for each corrupt cell, by cell_id: `reasons` and those that this process has found."""
        return self.reasons | self.corrupt_cells.reasons

    def stop_growing(self) -> None:
        """Give up a table that is not finished."""
        if self.growing is not None:
            self.growing.stop()
            self.growing = None

    def save(self) -> None:
        """Save the predictions added since the last call, if there are any."""
        if not self._parts:
            return
        ids, probabilities, scores, off = (np.concatenate(columns) for columns in zip(*self._parts, strict=True))
        columns = {"cell_id": ids} | dict(zip(UNLIKE_PIECES, (scores, *off.T), strict=True))
        columns |= {str(index): column for index, column in enumerate(probabilities.T)}
        table = pa.table({name: pa.array(column) for name, column in columns.items()})
        reasons = {str(cell_id): reason for cell_id, reason in self.corrupt_cells.reasons.items()}
        path = self._folder / f"{self._prefix}-{self._number:06d}.saved"
        save_pieces(path, {"stamp": "", "reasons": reasons}, [table])
        self._parts, self._number, self._last = [], self._number + 1, time.monotonic()

    def read_reasons(self) -> None:
        """Add the reasons for corrupt cells in the parts of all processes of this run."""
        for path in self._paths():
            part = None if path in self._earlier else load_pieces(path, "")
            if part is not None:
                self.reasons |= {int(cell_id): reason for cell_id, reason in part.facts["reasons"].items()}

    def in_order(self) -> Iterator[SavedPredictions]:
        """Yield the predictions of all processes and runs in the order of cell_id, some at a time.

        The files of the parts are mapped into memory, so this takes little of it.
        """
        parts = [_SortedPart.of(table) for table in self._tables()]
        end = max((int(part.cell_ids[-1]) + 1 for part in parts if len(part.cell_ids)), default=0)
        for begin in range(0, end, _SPAN_CELLS):
            tables = [part.between(begin, begin + _SPAN_CELLS) for part in parts]
            found = _predictions_of([table for table in tables if table.num_rows])
            if found is not None:
                yield found

    def joined(self) -> SavedPredictions:
        """Return the predictions of all processes and runs.

        Raises:
            DataError: there are none.
        """
        found = _predictions_of(self._tables())
        if found is None:
            raise DataError("no cell could be read: there is no prediction. Check the data set with fastcell verify.")
        return found

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.saved"))

    def _tables(self) -> list[pa.Table]:
        """Return the predictions of each part, of which `take_over` and `read_reasons` have checked the files."""
        found = [map_pieces(path) for path in self._paths()]
        return [tables[0] for tables in found if tables is not None and tables[0].num_rows]


class _SortedPart(NamedTuple):
    """Predictions of a part, and its cells in increasing order: cell k stands in row `order[k]`, or in row k."""

    table: pa.Table
    cell_ids: np.ndarray
    order: np.ndarray | None

    @classmethod
    def of(cls, table: pa.Table) -> _SortedPart:
        ids = table.column("cell_id").to_numpy()
        if (ids[1:] > ids[:-1]).all():
            return cls(table, ids, None)
        order = np.argsort(ids, kind="stable")
        return cls(table, ids[order], order)

    def between(self, begin: int, end: int) -> pa.Table:
        """Return the predictions of the cells from `begin` to `end`, exclusive."""
        first, last = np.searchsorted(self.cell_ids, (begin, end))
        if self.order is None:
            return self.table.slice(first, last - first)
        return self.table.take(pa.array(self.order[first:last]))


def _predictions_of(tables: list[pa.Table]) -> SavedPredictions | None:
    """Join the predictions of parts, each cell once; None without any."""
    if not tables:
        return None
    table = pa.concat_tables(tables)
    ids, first = np.unique(table.column("cell_id").to_numpy(), return_index=True)
    columns = {name: table.column(name).to_numpy()[first] for name in table.column_names[1:]}
    score, *off = (columns.pop(name) for name in UNLIKE_PIECES)
    unlike = UnlikeScores(score, np.stack(off, axis=1))
    return SavedPredictions(ids, np.stack(list(columns.values()), axis=1), unlike)
