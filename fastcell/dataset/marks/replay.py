"""Replay the journal of marks: the state of each cell, without undone marks; later marks override earlier ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fastcell.dataset.marks.journal import Mark

UNMARKED, NO_CLASS = -2, -1
"""Codes of `MarkedCells.labels`: no label by hand, and marked as without a class."""


@dataclass
class MarkedCells:
    """State of N cells after some marks.

    Attributes:
        num_cells: N.
        marks: all marks in order, including undone ones.
        names: names of labels, in the order of their first use.
        labels: (N,) int32, index into `names`, or `UNMARKED`, or `NO_CLASS`.
        labelled_by: (N,) int32, index into `marks` of the mark that gave the label; -1 without one.
        verdicts: (N,) int8, 1 for keep, 2 for drop, 0 without a verdict in a mark.
        unsure: (N,) bool.
        tags: (N,) bool by tag, for each tag that a cell has had.
    """

    num_cells: int
    marks: list[Mark] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    undone: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._places: dict[str, int] = {}
        self._clear()

    @classmethod
    def after(cls, marks: Iterable[Mark], num_cells: int) -> MarkedCells:
        """Return the state after `marks`."""
        state = cls(num_cells)
        state.add(list(marks))
        return state

    def add(self, marks: Sequence[Mark]) -> npt.NDArray[np.int64]:
        """Apply further marks; return the cell_ids that they concern, in ascending order."""
        touched = [np.empty(0, np.int64)]
        again = False
        for mark in marks:
            self._places[mark.op] = len(self.marks)
            self.marks.append(mark)
            for name in (*mark.classes, *([mark.label] if mark.label else [])):
                if name not in self.names:
                    self.names.append(name)
            aim = mark.undo or mark.redo
            if aim is not None and aim in self._places:
                (self.undone.add if mark.undo else self.undone.discard)(aim)
                touched.append(self.marks[self._places[aim]].cells)
                again = True
            touched.append(mark.cells)
        if again:
            self._clear()
            self._apply(range(len(self.marks)))
        else:
            self._apply(range(len(self.marks) - len(marks), len(self.marks)))
        return np.unique(np.concatenate(touched))

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(N,) bool, True for a cell with a label by hand."""
        return self.labels != UNMARKED

    def mark_named(self, op: str) -> Mark | None:
        """Return the mark with a name; None if there is none."""
        place = self._places.get(op)
        return None if place is None else self.marks[place]

    def last_of(self, who: str, undone: bool) -> Mark | None:
        """Return the mark of a person that undo would revoke, or that redo would restore; None if there is none.

        After a new mark of the same person, earlier undone marks cannot be redone.
        """
        mine = [mark for mark in self.marks if mark.who == who]
        done: list[Mark] = []
        back: list[Mark] = []
        for mark in mine:
            aim = self.mark_named(mark.undo or mark.redo or "")
            if mark.undo and aim in done:
                done.remove(aim)
                back.append(aim)
            elif mark.redo and aim in back:
                back.remove(aim)
                done.append(aim)
            elif len(mark.cells):
                done.append(mark)
                back = []
        stack = back if undone else done
        return stack[-1] if stack else None

    def history(self, cell: int) -> list[Mark]:
        """Return the marks of a cell in order, including undone ones."""
        found = []
        for mark in self.marks:
            place = np.searchsorted(mark.cells, cell)
            if place < len(mark.cells) and mark.cells[place] == cell:
                found.append(mark)
        return found

    def _clear(self) -> None:
        self.labels = np.full(self.num_cells, UNMARKED, np.int32)
        self.labelled_by = np.full(self.num_cells, -1, np.int32)
        self.verdicts = np.zeros(self.num_cells, np.int8)
        self.unsure = np.zeros(self.num_cells, bool)
        self.tags: dict[str, npt.NDArray[np.bool_]] = {}

    def _apply(self, places: range) -> None:
        number = {name: code for code, name in enumerate(self.names)}
        for place in places:
            mark = self.marks[place]
            if mark.op in self.undone or not len(mark.cells):
                continue
            cells = mark.cells
            if mark.label is not None:
                self.labels[cells] = number[mark.label] if mark.label else NO_CLASS
                self.labelled_by[cells] = place
            if mark.reset:
                self.labels[cells], self.labelled_by[cells] = UNMARKED, -1
            if mark.verdict is not None:
                self.verdicts[cells] = {"": 0, "keep": 1, "drop": 2}[mark.verdict]
            if mark.unsure is not None:
                self.unsure[cells] = mark.unsure
            for name, value in ((mark.tag, True), (mark.untag, False)):
                if name is not None:
                    self.tags.setdefault(name, np.zeros(self.num_cells, bool))[cells] = value
