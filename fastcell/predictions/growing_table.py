"""A table of predictions that a thread makes and writes while later cells are still being classified.

Its rows, their order and the bytes of the file are those of `fastcell.predictions.table.prediction_table` and
`write_csv_or_parquet` on the whole table. Pieces of it are made as soon as their cells are settled, and groups of rows
of a Parquet file are written as soon as they are complete, so memory holds a group of rows, however long the table is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from fastcell.dataset.manifest import Manifest
from fastcell.inference.unlike.reasons import UnlikeScores, joined_scores
from fastcell.predictions.answer_limits import AnswerLimits
from fastcell.predictions.convert import write_predictions
from fastcell.predictions.prediction_summary import PredictionSummary
from fastcell.predictions.saved_parts import PartStore
from fastcell.predictions.table import prediction_table, quarantine_rows, stored_columns
from fastcell.storage.whole_files import replace_file

GROUP_ROWS = 1 << 20  # of a group of rows in a Parquet file, pyarrow's own choice
_PIECE_ROWS = 1 << 16
_MOST_WAITING = 1 << 22  # cells that wait for the thread before `GrowingTable.add` waits for it
_GROUP = "a group of rows is complete"

ENDINGS = (".csv", ".parquet")
"""Endings of the files that grow."""

MakePiece = Callable[[np.ndarray, np.ndarray, np.ndarray, UnlikeScores], pa.Table]
"""Function from rows (n,), cells with a prediction (m,), their probabilities (m, K) and scores to a table of n rows."""


class _Stopped(Exception):  # noqa: N818, no error: the file is not wanted any more
    """The table is given up."""


class GrowingTable:
    """The table and its thread.

    Args:
        out: file, .csv or .parquet.
        classes: K names, in the order of the probabilities.
        rows: (R,) int64, requested cell_ids, increasing.
        stored: function from places `begin` and `end` in `rows` to the columns of their cells that do not depend on the
            predictions.
        make: makes a piece of the table.

    Attributes:
        is_whole: False if predictions came in another order, so that the table must be made from all of them.
    """

    def __init__(
        self, out: Path, classes: list[str], rows: np.ndarray, stored: Callable[[int, int], pa.Table], make: MakePiece
    ) -> None:
        self._out, self._rows, self._stored, self._make = out, rows, stored, make
        self._items: SimpleQueue[Any] = SimpleQueue()
        self._room, self._num_waiting, self._has_ended = Condition(), 0, False
        self._pending: list[tuple[np.ndarray, np.ndarray, UnlikeScores]] = []
        self._last, self._num_made, self._num_written = -1, 0, 0
        self._pieces: list[pa.Table] = []
        self._writer: Any = None
        self._schema: pa.Schema | None = None
        self._summary = PredictionSummary(classes)
        self._last_added, self.is_whole = -1, True
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="fastcell-table", daemon=True)
        self._thread.start()

    def add(self, cell_ids: np.ndarray, probabilities: np.ndarray, unlike: UnlikeScores) -> None:
        """Add the predictions of cells behind all earlier ones; requested cells between them are settled without one.

        Waits while more than 4 million cells are not in the table yet.

        Args:
            cell_ids: (n,) int64, increasing.
            probabilities: (n, K) float32.
            unlike: scores of the n cells.
        """
        if len(cell_ids) and self.is_whole:
            self.is_whole = bool(cell_ids[0] > self._last_added and (np.diff(cell_ids) > 0).all())
            self._last_added = int(cell_ids[-1])
        if self.is_whole:
            with self._room:
                self._room.wait_for(lambda: self._num_waiting < _MOST_WAITING or self._has_ended)
                self._num_waiting += len(cell_ids)
            self._items.put((cell_ids, probabilities, unlike))

    def finish(self, last: Callable[[pa.Schema], pa.Table]) -> PredictionSummary:
        """Make and write what is left, put the file in its place, and return the counts over its rows.

        Args:
            last: function from the schema of the table to the rows behind those of the cells.

        Raises:
            OSError: the file cannot be written.
        """
        self._items.put(last)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._summary

    def stop(self) -> None:
        """Discard the table unless it is finished; nothing of it stays on disk."""
        self._items.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            item = self._take_until_complete()
            if item is not None:
                replace_file(self._out, lambda path: self._write(path, item))
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001, it is raised by `finish`
            self._error = error
        finally:
            with self._room:
                self._has_ended = True
                self._room.notify_all()

    def _take_until_complete(self) -> Any:
        """Take predictions until rows can be written.

        Returns:
            The function given to `finish`, `_GROUP` if a group of rows is complete, or None after `stop`.
        """
        while (item := self._items.get()) is not None:
            if callable(item):
                self._make_pieces(len(self._rows))
                return item
            self._take(*item)
            if self._num_settled - self._num_made >= _PIECE_ROWS:
                self._make_pieces(self._num_settled)
                if self._num_complete:
                    return _GROUP
        return None

    def _write(self, path: Path, item: Any) -> None:
        try:
            while item is not None:
                if callable(item):
                    self._write_rest(path, item)
                    return
                self._write_complete(path)
                item = self._take_until_complete()
            raise _Stopped
        finally:
            if self._writer is not None:
                self._writer.close()

    def _take(self, cell_ids: np.ndarray, probabilities: np.ndarray, unlike: UnlikeScores) -> None:
        with self._room:
            self._num_waiting -= len(cell_ids)
            self._room.notify_all()
        if len(cell_ids):
            self._pending.append((cell_ids, probabilities, unlike))
            self._last = int(cell_ids[-1])

    @property
    def _num_settled(self) -> int:
        return int(np.searchsorted(self._rows, self._last, "right"))

    def _make_pieces(self, end: int) -> None:
        if end == self._num_made and (self._pieces or self._schema is not None):
            return
        ids, probabilities, scores = zip(*self._pending, strict=True) if self._pending else ((), (), ())
        joined = joined_scores(list(scores) or [UnlikeScores.none(0)])
        known = np.concatenate([np.empty(0, np.int64), *ids])
        found = np.concatenate(probabilities) if probabilities else np.empty((0, 0), np.float32)
        self._pieces.append(self._make(self._rows[self._num_made : end], known, found, joined))
        self._pending, self._num_made = [], end

    @property
    def _num_complete(self) -> int:
        """Number of rows in complete groups that are not written; those of a CSV file end where a piece ends."""
        num = self._num_made - self._num_written
        return num if self._out.suffix == ".csv" else num // GROUP_ROWS * GROUP_ROWS

    def _write_complete(self, path: Path) -> None:
        num, table = self._num_complete, self._joined()
        self._put(path, table.slice(0, num))
        self._pieces = [table.slice(num)] if num < table.num_rows else []

    def _write_rest(self, path: Path, last: Callable[[pa.Schema], pa.Table]) -> None:
        rest = [self._joined()] if self._pieces else []
        schema = rest[0].schema if rest else self._schema
        assert schema is not None
        self._put(path, pa.concat_tables([*rest, last(schema)]))

    def _joined(self) -> pa.Table:
        """Join the pieces that are not written, into columns of the chunks that the whole table has."""
        whole = pa.concat_tables(self._pieces)
        stored = self._stored(self._num_written, self._num_written + whole.num_rows)
        for number, name in enumerate(whole.column_names):
            if name in stored.column_names:
                column = stored.column(name)
            else:
                column = pa.chunked_array([whole.column(number).combine_chunks()])
            whole = whole.set_column(number, whole.schema.field(name), column)
        return whole

    def _put(self, path: Path, table: pa.Table) -> None:
        is_first = self._writer is None
        if is_first:
            is_csv = self._out.suffix == ".csv"
            open_file = pyarrow.csv.CSVWriter if is_csv else pq.ParquetWriter
            self._writer = open_file(path, table.schema, **({} if is_csv else {"write_page_checksum": True}))
            self._schema = table.schema
        if table.num_rows or is_first:
            self._writer.write_table(table)
        self._summary.add(table)
        self._num_written += table.num_rows


def grow_table(
    out: Path,
    manifest: Manifest,
    classes: list[str],
    rows: np.ndarray,
    limits: AnswerLimits,
    reasons: Callable[[], dict[int, str]],
) -> GrowingTable | None:
    """Return the table of a run of ``fastcell predict``; None for files that do not grow.

    Args:
        out: output file.
        manifest: manifest of the data set.
        classes: K names, in the order of the probabilities.
        rows: (R,) int64, requested cell_ids in any order.
        limits: temperature and minimum confidence.
        reasons: returns the reason for each corrupt cell that is known by now, by cell_id; those of a piece are known
            when later cells have a prediction.
    """
    if out.suffix not in ENDINGS:
        return None

    def make(piece: np.ndarray, cell_ids: np.ndarray, found: np.ndarray, unlike: UnlikeScores) -> pa.Table:
        return prediction_table(
            manifest,
            classes,
            piece,
            cell_ids,
            limits.calibrate(found) if len(found) else np.empty((0, len(classes)), np.float32),
            quarantined=False,
            reasons=reasons(),
            min_confidence=limits.min_confidence,
            unlike=unlike,
        )

    rows = rows if (rows[1:] > rows[:-1]).all() else np.unique(rows)
    are_adjacent = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows)

    def stored(begin: int, end: int) -> pa.Table:  # in the chunks that the whole table has
        cells = stored_columns(manifest, rows[begin:end])
        return cells if are_adjacent else cells.combine_chunks()

    return GrowingTable(out, classes, rows, stored, make)


def finish_table(
    store: PartStore, out: Path, manifest: Manifest, classes: list[str], rows: np.ndarray, limits: AnswerLimits
) -> tuple[PredictionSummary, list[str]]:
    """Write the table of all predictions of a run, and return counts over its rows and messages for the user.

    Args:
        store: predictions of the run, all added.
        out: output file.
        manifest: manifest of the data set.
        classes: K names, in the order of the probabilities.
        rows: (R,) int64, requested cell_ids in any order.
        limits: temperature and minimum confidence.
    """
    if store.growing is None or not store.growing.is_whole:
        store.stop_growing()
        store.read_reasons()
        store.growing = grow_table(out, manifest, classes, rows, limits, lambda: store.all_reasons)
        if store.growing is not None:
            for part in store.in_order():
                store.growing.add(*part)
    store.reasons = store.all_reasons
    if store.growing is not None:
        return store.growing.finish(partial(quarantine_rows, manifest)), []
    found = store.joined()
    table = prediction_table(
        manifest,
        classes,
        rows,
        found.cell_ids,
        limits.calibrate(found.probabilities),
        reasons=store.reasons,
        min_confidence=limits.min_confidence,
        unlike=found.unlike,
    )
    summary = PredictionSummary(classes)
    summary.add(table)
    return summary, write_predictions(out, table, classes, manifest)
