"""Columns of all tables of a data set, with one value per cell, read on first use.

A column is a category (codes into a list of names; "" for none) or a number (float32; NaN for none).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import Mark
from fastcell.dataset.marks.replay import NO_CLASS, UNMARKED, MarkedCells
from fastcell.dataset.parquet import read_parquet
from fastcell.errors import ArgumentError, did_you_mean
from fastcell.quality.features import FEATURES
from fastcell.quality.quality_table import QUALITY_FILE, read_quality_columns

NO_YES = ["no", "yes"]
MARK_COLUMNS = frozenset({"class", "by_hand", "unsure", "verdict", "agrees"})
"""Columns whose values depend on marks."""

_PLAIN_NUMBERS = ("height", "width", "um_per_px", "mean_intensity", "border_median")


class Category(NamedTuple):
    """Column of names.

    Attributes:
        codes: (N,) int32, index into `names`.
        names: the different names.
    """

    codes: npt.NDArray[np.int32]
    names: list[str]


class CellAnswers(NamedTuple):
    """Answers of a run for N cells; rows of NaN for cells without an answer.

    Attributes:
        classes: K names.
        probabilities: (N, K) float32.
        unlike: (N,) float32, above 1 for a cell unlike those of training; NaN if unknown.
    """

    classes: list[str]
    probabilities: npt.NDArray[np.float32]
    unlike: npt.NDArray[np.float32]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(N,) bool, True for a cell with an answer."""
        return np.asarray(~np.isnan(self.probabilities[:, 0]))

    def called(self) -> npt.NDArray[np.int32]:
        """Return the most probable class of each cell, (N,) int32; -1 without an answer."""
        return np.where(self.known, np.nan_to_num(self.probabilities).argmax(1), -1).astype(np.int32)

    def top_two(self) -> npt.NDArray[np.float32]:
        """Return the highest and the second highest probability of each cell, (N, 2) float32; NaN without an answer."""
        if self.probabilities.shape[1] < 2:
            return np.concatenate([self.probabilities, np.zeros_like(self.probabilities)], 1)
        return -np.sort(np.partition(-self.probabilities, 1, axis=1)[:, :2], axis=1)


class CellColumns:
    """Columns of one data set; safe to use from several threads.

    Args:
        manifest: the data set as it was opened.
        split_name: split that gives the subsets; none if the data set does not have it.

    Attributes:
        marked: state of the marks.
        drop: (N,) bool, cells that ``verdicts.csv`` drops.
        answers: answers of a run; None without a run.
        points: (N, 2) float32, plane of the embedding; None until it is computed.
        version: number of changes other than marks.
    """

    def __init__(self, manifest: Manifest, split_name: str) -> None:
        self.manifest, self.split_name = manifest, split_name
        self.marked = manifest.marked or MarkedCells(len(manifest))
        self.drop = ~manifest.verdicts()
        self.answers: CellAnswers | None = None
        self.points: npt.NDArray[np.float32] | None = None
        self.version = 0
        self._recorded = _category(manifest.recorded_classes())
        self._classes: list[str] = self._own_classes(manifest)
        self._kept: dict[str, Category | npt.NDArray[np.float32]] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def classes(self) -> list[str]:
        """Names of classes to choose from: those of the data set, of the run, and those defined by people."""
        of_run = [] if self.answers is None else self.answers.classes
        return list(dict.fromkeys([*self._classes, *of_run, *self.marked.names]))

    def category_names(self) -> list[str]:
        """Return the names of the available categories."""
        names = ["class", "by_hand", "unsure", "verdict"]
        table = self.manifest.table
        names += [name for name in ("group", "collection") if table.column(name).null_count < len(table)]
        names += ["subset"] if self.split_name in self.manifest.split_names() else []
        names += ["qc", "fault"] if (self.manifest.path / QUALITY_FILE).is_file() else []
        names += ["recorded", "encoding"]
        if self.answers is not None:
            names += ["called", "agrees"]
            names += ["unlike"] if not np.isnan(self.answers.unlike).all() else []
        return names

    def number_names(self) -> list[str]:
        """Return the names of the available columns of numbers."""
        names: list[str] = []
        if self.answers is not None:
            names += ["confidence", "margin", *(f"p_{name}" for name in self.answers.classes)]
            names += ["unlike_score"] if not np.isnan(self.answers.unlike).all() else []
        if (self.manifest.path / QUALITY_FILE).is_file():
            names += ["quality", *(f"qc_{name}" for name in FEATURES if name not in _PLAIN_NUMBERS)]
        names += ["embedding_1", "embedding_2"] if self.points is not None else []
        return [*names, "cell_id", *_PLAIN_NUMBERS, *(f"instrument_{name}" for name in self.manifest.feature_names())]

    def category(self, name: str) -> Category:
        """Return a category.

        Raises:
            ArgumentError: there is no such column.
            DataError: its file is damaged.
        """
        with self._lock:
            made = self._of_marks(name)
            if made is not None:
                return made
            return self._get(name, self.category_names(), self._read_category)  # type: ignore[return-value]

    def numbers(self, name: str) -> npt.NDArray[np.float32]:
        """Return a column of numbers, (N,) float32.

        Raises:
            ArgumentError: there is no such column.
            DataError: its file is damaged.
        """
        with self._lock:
            return self._get(name, self.number_names(), self._read_numbers)  # type: ignore[return-value]

    def tag(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which cells have a tag, (N,) bool."""
        with self._lock:
            return self.marked.tags.get(name, np.zeros(len(self), bool))

    def labels(self) -> npt.NDArray[np.int32]:
        """Return the present class of each cell, (N,) int32 into `classes`; -1 for none."""
        found, names = self.category("class"), self.classes
        place = np.array([names.index(name) if name else -1 for name in found.names], np.int32)
        return place[found.codes]

    def called(self) -> npt.NDArray[np.int32]:
        """Return the predicted class of each cell, (N,) int32 into `classes`; -1 for none."""
        if self.answers is None:
            return np.full(len(self), -1, np.int32)
        names = self.classes
        place = np.array([*(names.index(name) for name in self.answers.classes), -1], np.int32)
        return place[self.answers.called()]

    def take_marks(self, marks: list[Mark]) -> npt.NDArray[np.int64]:
        """Apply further marks; return the cells that they concern."""
        with self._lock:
            touched = self.marked.add(marks)
            for name in MARK_COLUMNS:
                self._kept.pop(name, None)
            return touched

    def reset_marks(self, marks: list[Mark]) -> None:
        """Replace all marks."""
        with self._lock:
            self.marked = MarkedCells.after(marks, len(self))
            for name in MARK_COLUMNS:
                self._kept.pop(name, None)

    def set_drop(self, drop: npt.NDArray[np.bool_]) -> None:
        """Replace the verdicts."""
        with self._lock:
            self.drop = drop
            self._kept.pop("verdict", None)

    def set_answers(self, answers: CellAnswers) -> None:
        """Replace the answers of the run."""
        with self._lock:
            self.answers = answers
            self._forget()

    def set_points(self, points: npt.NDArray[np.float32]) -> None:
        """Replace the plane of the embedding."""
        with self._lock:
            self.points = points
            self._forget()

    def _forget(self) -> None:
        self._kept.clear()
        self.version += 1

    def _get(
        self, name: str, known: list[str], read: Callable[[str], Category | npt.NDArray[np.float32]]
    ) -> Category | npt.NDArray[np.float32]:
        if name not in known:
            hint = did_you_mean(name, known) or f"There are {', '.join(known[:40])}."
            raise ArgumentError(f"column must be one of the tables, got {name[:80]!r}. {hint}")
        if name not in self._kept:
            self._kept[name] = read(name)
        return self._kept[name]

    def _of_marks(self, name: str) -> Category | None:
        """Return a column that changes with marks; None for another one."""
        if name not in MARK_COLUMNS or (name == "agrees" and self.answers is None):
            return None
        if name not in self._kept:
            marked = self.marked
            if name == "class":
                self._kept[name] = self._classes_now()
            elif name == "by_hand":
                self._kept[name] = _flags(marked.labels != UNMARKED)
            elif name == "unsure":
                self._kept[name] = _flags(marked.unsure)
            elif name == "verdict":
                self._kept[name] = Category(self.drop.astype(np.int32), ["keep", "drop"])
            else:
                labels, called = self.labels(), self.called()
                codes = np.where((labels < 0) | (called < 0), 0, np.where(labels == called, 2, 1))
                self._kept[name] = Category(codes.astype(np.int32), ["", *NO_YES])
        return self._kept[name]  # type: ignore[return-value]

    def _classes_now(self) -> Category:
        names = ["", *self.classes]
        place = {name: code for code, name in enumerate(names)}
        codes = np.array([place[name] for name in self._recorded.names], np.int32)[self._recorded.codes]
        rows = np.flatnonzero(self.marked.labels != UNMARKED)
        of_name = np.array([*(place[name] for name in self.marked.names), 0], np.int32)
        codes[rows] = of_name[self.marked.labels[rows]] if NO_CLASS == -1 else codes[rows]
        return Category(codes, names)

    def _own_classes(self, manifest: Manifest) -> list[str]:
        by_hand = set(self.marked.names) - set(self._recorded.names)
        return [name for name in manifest.info.classes if name not in by_hand]

    def _read_category(self, name: str) -> Category:
        if name == "recorded":
            return self._recorded
        if name == "called":
            assert self.answers is not None
            return Category(self.answers.called() + np.int32(1), ["", *self.answers.classes])
        if name == "unlike":
            assert self.answers is not None
            scores = self.answers.unlike
            return Category(np.where(np.isnan(scores), 0, np.where(scores > 1, 2, 1)).astype(np.int32), ["", *NO_YES])
        if name == "subset":
            return _category(pa.chunked_array([pa.array(self.manifest.split(self.split_name))]))
        if name in ("qc", "fault"):
            table = self.manifest.quality()
            assert table is not None
            order = np.argsort(table.column("cell_id").to_numpy())
            return _category(table.column("verdict" if name == "qc" else "reason").take(pa.array(order)))
        return _category(self.manifest.table.column(name))

    def _read_numbers(self, name: str) -> npt.NDArray[np.float32]:
        answers = self.answers
        if answers is not None and name == "confidence":
            return np.ascontiguousarray(answers.top_two()[:, 0])
        if answers is not None and name == "margin":
            found = answers.top_two()
            return np.asarray(found[:, 0] - found[:, 1], np.float32)
        if answers is not None and name == "unlike_score":
            return answers.unlike
        if answers is not None and name.startswith("p_") and name[2:] in answers.classes:
            return np.ascontiguousarray(answers.probabilities[:, answers.classes.index(name[2:])])
        if name in ("embedding_1", "embedding_2"):
            assert self.points is not None
            return np.ascontiguousarray(self.points[:, int(name[-1]) - 1])
        if name == "cell_id":
            return np.arange(len(self), dtype=np.float32)
        if name == "quality":
            table = self.manifest.quality()
            scores = np.full(len(self), np.nan, np.float32)
            if table is not None:
                scores[table.column("cell_id").to_numpy()] = table.column("score").to_numpy()
            return scores
        if name.startswith("qc_"):
            return self._quality_feature(name[3:])
        if name.startswith("instrument_"):
            features = self.manifest.features()
            assert features is not None
            values = features.column(name[len("instrument_") :]).to_numpy(zero_copy_only=False)
            return np.asarray(values, np.float32)
        return np.asarray(self.manifest.column(name), np.float32)

    def _quality_feature(self, name: str) -> npt.NDArray[np.float32]:
        path = self.manifest.path / QUALITY_FILE
        schema = pa.schema([("cell_id", pa.int64()), (name, pa.float32())])
        table = read_parquet(path, schema, most_rows=len(self), hint="Run fastcell qc again")
        ids = table.column("cell_id").to_numpy()
        if not np.array_equal(ids, np.arange(len(self))):
            values = read_quality_columns(self.manifest).column(name).to_numpy(zero_copy_only=False)
            return np.asarray(values, np.float32)
        return np.asarray(table.column(name).to_numpy(zero_copy_only=False), np.float32)


def _flags(values: npt.NDArray[np.bool_]) -> Category:
    return Category(values.astype(np.int32), NO_YES)


def _category(column: pa.ChunkedArray) -> Category:
    """Return a column of text as codes; null is the name ""."""
    coded = column.fill_null("").combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    return Category(coded.indices.to_numpy(zero_copy_only=False).astype(np.int32), coded.dictionary.to_pylist())
