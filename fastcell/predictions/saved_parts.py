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
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastcell.dataset.cell_hashes import hashes_of
from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.integrity import still_corrupt
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.schema import FORMAT_VERSION
from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.storage.saved_pieces import load_pieces, save_pieces
from fastcell.storage.staging import Staging, describe_job, open_staging_of

if TYPE_CHECKING:
    from fastcell.predictions.growing_table import GrowingTable

SAVE_EVERY_S = 30.0
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
        "cells": blake2b(hashes_of(manifest).tobytes(), digest_size=16).hexdigest(),
        "checkpoint": blake2b(checkpoint.read_bytes(), digest_size=16).hexdigest(),
        "torch": importlib.metadata.version("torch"),
        **settings,
    }
    with open_staging_of(out, say) as stage:
        stage.begin(job)
        yield stage


class PartStore:
    """Predictions of one process, saved about every 30 s, and those of all processes and interrupted runs, joined.

    Args:
        corrupt_cells: corrupt cells found by the reader of this process.

    Attributes:
        cell_ids: (N,) int64 in increasing order, after `join`.
        probabilities: (N, K) float32 in the same order, after `join`.
        unlike: scores of the N cells in the same order, after `join`; NaN for cells that were not scored.
        reasons: reason for each corrupt cell, by cell_id, after `join`.
        growing: table that the predictions are also added to; None for none, and if some come from an earlier run.
    """

    def __init__(self, corrupt_cells: CorruptCells) -> None:
        self.corrupt_cells = corrupt_cells
        self.growing: GrowingTable | None = None
        self.cell_ids = np.empty(0, np.int64)
        self.probabilities = np.empty((0, 0), np.float32)
        self.unlike = UnlikeScores.none(0)
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
            predicted.append(part.tables[0].column("cell_id").to_numpy())
            reasons |= {int(cell_id): reason for cell_id, reason in part.facts["reasons"].items()}
        done = np.unique(np.concatenate(predicted))
        if self._earlier:
            self.stop_growing()
        if reasons:
            known = set(done.tolist())
            kept = still_corrupt(self.corrupt_cells.manifest, reasons)
            self.reasons = {cell_id: reason for cell_id, reason in kept.items() if cell_id not in known}
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

    def end(self) -> None:
        """Keep the table that has grown, or, without one, `join` the predictions."""
        if self.growing is not None and self.growing.is_whole:
            self.reasons |= self.corrupt_cells.reasons
            return
        self.stop_growing()
        self.join()

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

    def join(self) -> None:
        """Read the parts of all processes and runs."""
        tables = []
        for path in sorted(self._folder.glob("*.saved")):
            part = load_pieces(path, "")
            if part is not None:
                tables.append(part.tables[0])
                if path not in self._earlier:
                    self.reasons |= {int(cell_id): reason for cell_id, reason in part.facts["reasons"].items()}
        table = pa.concat_tables(tables)
        self.cell_ids, first = np.unique(table.column("cell_id").to_numpy(), return_index=True)
        columns = {name: table.column(name).to_numpy()[first] for name in table.column_names[1:]}
        score, *off = (columns.pop(name) for name in UNLIKE_PIECES)
        self.unlike = UnlikeScores(score, np.stack(off, axis=1))
        self.probabilities = np.stack(list(columns.values()), axis=1)
