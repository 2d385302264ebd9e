"""Mark cells from the page.

Marks are in the journal, and verdicts also in ``verdicts.csv``, before they are acknowledged.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import MARKS_FILE, Mark, append_marks, checked_name, read_marks
from fastcell.errors import ArgumentError
from fastcell.quality.verdicts_file import (
    VERDICTS_FILE,
    Verdicts,
    merge_verdicts,
    no_verdicts,
    read_verdicts,
    write_verdicts,
)
from fastcell.review.cell_columns import CellColumns

_SAID = ("label", "reset", "verdict", "unsure", "tag", "untag")
_REASON = "by hand"
_DROP = 2  # code of `MarkedCells.verdicts`


class Marking:
    """Marks of one data set, shared with other processes that mark its cells.

    Args:
        columns: columns that follow the marks.

    Attributes:
        sequence: counter that grows with each mark and each change of ``verdicts.csv``.
    """

    def __init__(self, columns: CellColumns) -> None:
        self._columns = columns
        self._manifest: Manifest = columns.manifest
        self._lock = threading.RLock()
        part = read_marks(self._manifest.path, self._manifest.table)
        columns.reset_marks(part.marks)
        self._end, self._inode = part.end, part.inode
        self._verdicts_stamp = _stamp(self._manifest.path / VERDICTS_FILE)
        self.sequence = len(part.marks)
        self._touched: list[tuple[int, npt.NDArray[np.int64]]] = []

    @property
    def writable(self) -> bool:
        """Whether the folder of the data set can be written."""
        path = self._manifest.path
        file = path / MARKS_FILE
        return os.access(path, os.W_OK) and (not file.exists() or os.access(file, os.W_OK))

    def mark(self, cells: npt.NDArray[np.int64], who: str, said: dict[str, Any]) -> int:
        """Mark cells. The mark is on disk when the function returns.

        Args:
            cells: (n,) cell_ids, n >= 1.
            who: person.
            said: fields of `Mark` to set: label, reset, verdict, unsure, tag, untag.

        Returns:
            The new `sequence`.

        Raises:
            ArgumentError: no field is set, or a name cannot be stored.
            DataError: the journal or ``verdicts.csv`` is damaged.
        """
        checked = check_said(said)
        if not len(cells):
            raise ArgumentError("cells must be at least one. Choose cells first.")
        return self._write(Mark.now(checked_person(who), cells, **checked))

    def name_classes(self, names: list[str], who: str) -> int:
        """Define classes that no cell has yet; return the new `sequence`.

        Raises:
            ArgumentError: a name cannot be stored.
        """
        checked = tuple(_name("class", name) for name in names)
        return self._write(Mark.now(checked_person(who), np.empty(0, np.int64), classes=checked))

    def step_back(self, who: str, redo: bool) -> Mark | None:
        """Undo the last mark of a person, or redo the last undone one.

        Returns:
            The mark that was undone or redone; None if there is none.
        """
        with self._lock:
            self.follow()
            aim = self._columns.marked.last_of(checked_person(who), undone=redo)
            if aim is not None:
                said = {"redo" if redo else "undo": aim.op}
                self._write(Mark.now(checked_person(who), np.empty(0, np.int64), **said), aim)
            return aim

    def follow(self) -> int:
        """Apply the marks that other processes have written since the last call; return the `sequence`."""
        with self._lock:
            path = self._manifest.path
            try:
                status = (path / MARKS_FILE).stat()
                size, inode = status.st_size, status.st_ino
            except OSError:
                size, inode = 0, 0
            if self._inode and (inode != self._inode or size < self._end):  # another file
                part = read_marks(path, self._manifest.table)
                self._columns.reset_marks(part.marks)
                self._end, self._inode = part.end, part.inode
                self._note(np.arange(len(self._manifest)))
            elif size > self._end:
                part = read_marks(path, self._manifest.table, self._end)
                self._end, self._inode = part.end, part.inode
                if part.marks:
                    self._note(self._columns.take_marks(part.marks))
            stamp = _stamp(path / VERDICTS_FILE)
            if stamp != self._verdicts_stamp:
                self._verdicts_stamp = stamp
                before = self._columns.drop
                self._columns.set_drop(~self._manifest.verdicts())
                self._note(np.flatnonzero(before != self._columns.drop))
            return self.sequence

    def touched_since(self, sequence: int) -> npt.NDArray[np.int64] | None:
        """Return the cells that changed after a `sequence`, in ascending order; None if this is no longer known."""
        with self._lock:
            if sequence >= self.sequence:
                return np.empty(0, np.int64)
            parts = [cells for number, cells in self._touched if number > sequence]
            if not self._touched or self._touched[0][0] > sequence + 1:
                return None
            return np.unique(np.concatenate(parts))

    def _note(self, cells: npt.NDArray[np.int64]) -> None:
        self.sequence += 1
        self._touched.append((self.sequence, cells))
        del self._touched[:-1000]

    def _write(self, mark: Mark, aim: Mark | None = None) -> int:
        """Append a mark and update ``verdicts.csv``."""
        about = mark if aim is None else aim

        def make() -> list[Mark]:
            if mark.verdict is None:
                return [mark]
            return [mark._replace(before=_rows_of(self._read_verdicts(), mark.cells))]

        def then() -> None:
            if about.verdict is not None:
                self.follow()
                self._write_verdicts(about.cells)

        with self._lock:
            append_marks(self._manifest.path, self._manifest.table, make, then)
            self._manifest.written(MARKS_FILE)
            if about.verdict is not None:
                self._manifest.written(VERDICTS_FILE)
            return self.follow()

    def _write_verdicts(self, cells: npt.NDArray[np.int64]) -> None:
        """Write the verdicts of some cells according to the marks; for cells without a marked verdict, the verdicts
        before the first mark.
        """
        codes = self._columns.marked.verdicts[cells]
        said = cells[codes > 0]
        by_hand = Verdicts(
            said, codes[codes > 0] == _DROP, np.full(len(said), _REASON, object), np.ones(len(said), bool)
        )
        earlier = {
            row[0]: row
            for mark in self._columns.marked.marks
            for row in mark.before
            if not (row[3] and row[2] == _REASON)
        }
        rows = tuple(earlier[cell] for cell in cells[codes == 0].tolist() if cell in earlier)
        old = self._read_verdicts()
        others = old.where(~np.isin(old.cell_ids, cells))
        path = self._manifest.path / VERDICTS_FILE
        write_verdicts(path, self._manifest, merge_verdicts(by_hand, _restored(rows), others))

    def _read_verdicts(self) -> Verdicts:
        path = self._manifest.path / VERDICTS_FILE
        return read_verdicts(path, self._manifest) if path.exists() else no_verdicts()


def check_said(said: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that a page sets on cells, with names in their stored form.

    Raises:
        ArgumentError: no field or an unknown field is set, or a name cannot be stored.
    """
    unknown = set(said) - set(_SAID)
    if unknown or not said:
        raise ArgumentError(
            f"a mark must have one of {', '.join(_SAID)}, got {', '.join(sorted(unknown)) or 'nothing'}."
        )
    checked = dict(said)
    for name in ("label", "tag", "untag"):
        if name in checked and not (name == "label" and checked[name] == ""):
            checked[name] = _name("class" if name == "label" else "tag", checked[name])
    if checked.get("verdict", "") not in ("", "keep", "drop"):
        raise ArgumentError(f"verdict must be keep, drop or nothing, got {str(checked['verdict'])[:60]!r}.")
    for name in ("reset", "unsure"):
        if not isinstance(checked.get(name, False), bool):
            raise ArgumentError(f"{name} must be true or false.")
    return checked


def checked_person(who: object) -> str:
    """Return the name of a person in its stored form.

    Raises:
        ArgumentError: it cannot be stored.
    """
    return _name("who", who)


def _name(what: str, name: object) -> str:
    try:
        return checked_name(what, name)
    except ValueError as error:
        raise ArgumentError(f"{error}.") from None


def _rows_of(verdicts: Verdicts, cells: npt.NDArray[np.int64]) -> tuple[tuple[int, str, str, bool], ...]:
    """Return the rows of some cells in the form of `Mark.before`."""
    mine = verdicts.where(np.isin(verdicts.cell_ids, cells))
    words = np.where(mine.drop, "drop", "keep").tolist()
    return tuple(
        zip(mine.cell_ids.tolist(), words, map(str, mine.reasons.tolist()), mine.by_hand.tolist(), strict=True)
    )


def _restored(rows: tuple[tuple[int, str, str, bool], ...]) -> Verdicts:
    if not rows:
        return no_verdicts()
    ids, words, reasons, by_hand = zip(*rows, strict=True)
    drop = np.array([word == "drop" for word in words])
    return Verdicts(np.array(ids, np.int64), drop, np.array(reasons, object), np.array(by_hand, bool))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
