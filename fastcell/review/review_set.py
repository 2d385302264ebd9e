"""State of the page's server: data set, columns, requested views, marks, and run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.cell_ranges import read_ranges, write_ranges
from fastcell.dataset.marks.replay import NO_CLASS, UNMARKED
from fastcell.errors import ArgumentError, DataError
from fastcell.review.cell_columns import CellAnswers, CellColumns
from fastcell.review.cell_embedding import CellEmbedding, EmbeddingJob
from fastcell.review.cell_query import CellQuery
from fastcell.review.marking import Marking
from fastcell.review.next_to_label import ChoiceName, LearnerAnswers, choose_next, fit_learner
from fastcell.review.thumbnails import Thumbnails
from fastcell.stats.proportions import wilson_interval

_MOST_VIEWS = 24
_LEAST_NEW = 10
_SHARE_NEW = 0.05  # of the labels by hand, so that the learner behind the progress is fitted anew


class ReviewOptions(NamedTuple):
    """Options of the command.

    Attributes:
        run: run folder or checkpoint; None without a run.
        split_name: split whose subsets are shown.
        who: name stored with marks, unless the page gives another name.
        query: first query of the page.
        trust: packages whose code the network of the run may import.
    """

    run: Path | None
    split_name: str
    who: str
    query: dict[str, Any]
    trust: Sequence[str] = ()


class CellView(NamedTuple):
    """Cells that meet a query, in its order.

    Attributes:
        name: name of the view, which stays valid after a restart of the server.
        rows: (n,) int32 cell_ids.
    """

    name: str
    rows: npt.NDArray[np.int32]


class ReviewSet:
    """Data for all requests of the page. Safe to use from several threads.

    Args:
        manifest: the data set.
        options: options of the command.
    """

    def __init__(self, manifest: Manifest, options: ReviewOptions) -> None:
        self.manifest, self.options = manifest, options
        self.columns = CellColumns(manifest, options.split_name)
        self.marking = Marking(self.columns)
        self.thumbnails = Thumbnails(manifest)
        self.job = EmbeddingJob(manifest, self.thumbnails, options.run, self._load_run)
        self._views: OrderedDict[str, CellView] = OrderedDict()
        self._lock = threading.RLock()
        self._learner_lock = threading.Lock()
        self._learner: LearnerAnswers | None = None
        self._learnt_from, self._num_learnt = -1, 0  # sequence, and number of labels
        if options.run is not None:
            answers = saved_answers(options.run, manifest)
            if answers is not None:
                self.columns.set_answers(answers)
            self.job.start(self._take_embedding)

    def view(self, query: CellQuery) -> CellView:
        """Return the cells of a query.

        Raises:
            ArgumentError: a term has another form, or names a missing column.
        """
        marks = self.marking.sequence if query.follows_marks else 0
        text = f"{self.columns.version} {marks} {query.text()}"
        name = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=9).hexdigest()
        with self._lock:
            if name in self._views:
                self._views.move_to_end(name)
                return self._views[name]
        found = CellView(name, query.rows(self.columns))
        with self._lock:
            self._views[name] = found
            while len(self._views) > _MOST_VIEWS:
                self._views.popitem(last=False)
        return found

    def named_view(self, name: str) -> CellView | None:
        """Return an earlier view; None if the server no longer has it."""
        with self._lock:
            if name in self._views:
                self._views.move_to_end(name)
            return self._views.get(name)

    def chosen_cells(self, chosen: object) -> npt.NDArray[np.int64]:
        """Return the cells of a request: ranges of cell_ids, or all cells of ``{"view": NAME}``.

        Raises:
            ArgumentError: the value is neither.
        """
        if isinstance(chosen, dict):
            view = self.named_view(str(chosen.get("view")))
            if view is None:
                raise ArgumentError("view must be one that the server knows, got one it has forgotten. Load it again.")
            return np.sort(view.rows).astype(np.int64)
        try:
            return read_ranges(str(chosen), len(self.manifest))
        except ValueError as error:
            raise ArgumentError(f"{error}.") from None

    def start_embedding(self) -> None:
        """Start to compute the embedding, once."""
        self.job.start(self._take_embedding)

    def progress(self) -> dict[str, Any]:
        """Return the number of labels, and the agreement of the model with them."""
        marked, labels = self.columns.marked, self.columns.labels()
        by_hand = marked.labels >= 0
        called = self.columns.called()
        compared = by_hand & (called >= 0)
        num, agree = int(compared.sum()), int((labels == called)[compared].sum())
        by = "run"
        if self.columns.answers is None:
            learner = self._learned()
            by = "page"
            num = 0 if learner is None else learner.num_compared
            agree = 0 if learner is None or not num else round(learner.agreement * num)
        low, high = wilson_interval(agree, num)
        agreement = {"value": agree / num, "low": low, "high": high, "num": num, "by": by} if num else None
        counts = np.bincount(labels[by_hand], minlength=len(self.columns.classes)).tolist()
        return {
            "labelled": int(by_hand.sum()),
            "cells": len(self.manifest),
            "agreement": agreement,
            "classes": dict(zip(self.columns.classes, counts, strict=False)),
            "unsure": int(marked.unsure.sum()),
            "dropped": int(self.columns.drop.sum()),
        }

    def next_cells(self, num: int, how: ChoiceName) -> str:
        """Return the cells to label next, as ranges."""
        marked = self.columns.marked
        free = (marked.labels == UNMARKED) & ~marked.unsure & ~self.columns.drop
        by_hand = marked.labels >= 0
        embedding = self.job.result
        values = None if embedding is None else embedding.values
        answers, counts, probabilities = self.columns.answers, None, None
        if answers is not None:
            probabilities = answers.probabilities
            called = self.columns.labels()[by_hand]
            names = self.columns.classes
            counts = np.array([int((called == names.index(name)).sum()) for name in answers.classes], np.int64)
        elif (learner := self._learned(latest=True)) is not None:
            probabilities = learner.probabilities
            counts = np.bincount(self.columns.labels()[by_hand], minlength=probabilities.shape[1])
        chosen = choose_next(
            np.flatnonzero(free),
            num,
            how,
            probabilities=probabilities,
            values=values,
            labelled=np.flatnonzero(by_hand),
            counts=counts,
            seed=int(by_hand.sum()),
        )
        return write_ranges(chosen)

    def close(self) -> None:
        """Stop the work in the background."""
        self.job.stop()

    def _learned(self, latest: bool = False) -> LearnerAnswers | None:
        """Return the predictions of a model fitted to the labels by hand; None without an embedding or two classes.

        Args:
            latest: fit the model to the present labels; otherwise a model without the last few labels may be used.
        """
        embedding = self.job.result
        if embedding is None:
            return None
        with self._learner_lock:
            sequence, labels = self.marking.sequence, self.columns.labels()
            rows = np.flatnonzero(self.columns.marked.labels > NO_CLASS)
            few = max(_LEAST_NEW, _SHARE_NEW * self._num_learnt)
            enough = self._learner is not None and not latest and abs(len(rows) - self._num_learnt) < few
            if sequence != self._learnt_from and not enough:
                num_classes = len(self.columns.classes)
                self._learner = fit_learner(embedding.values, rows, labels[rows].astype(np.int64), num_classes)
                self._learnt_from, self._num_learnt = sequence, len(rows)
            return self._learner

    def _take_embedding(self, found: CellEmbedding) -> None:
        if found.answers is not None:
            self.columns.set_answers(found.answers)
        self.columns.set_points(found.points)

    def _load_run(self, run: Path) -> Any:
        from fastcell.inference.open_classifier import load
        from fastcell.system import library_settings

        library_settings.prepare_torch()
        return load(run, trust=self.options.trust)


def saved_answers(run: Path, manifest: Manifest) -> CellAnswers | None:
    """Return the stored predictions of a run for cells of the data set (its test subset); None if there are none."""
    from fastcell.predictions.table import read_predictions
    from fastcell.runs.run_folder import PREDICTIONS_FILE

    path = (run if run.is_dir() else run.parent) / PREDICTIONS_FILE
    try:
        found = read_predictions(path)
    except DataError:
        return None
    place = {key: row for row, key in enumerate(manifest.table.column("key").to_pylist())}
    rows = np.array([place.get(key, -1) for key in found.keys], np.int64)
    known = rows >= 0
    if not known.any():
        return None
    probabilities = np.full((len(manifest), len(found.classes)), np.nan, np.float32)
    probabilities[rows[known]] = found.probabilities[known]
    unlike = np.full(len(manifest), np.nan, np.float32)
    if "unlike_score" in found.table.column_names:
        scores = found.table.column("unlike_score").to_numpy(zero_copy_only=False)
        unlike[rows[known]] = np.asarray(scores, np.float32)[known]
    return CellAnswers(found.classes, probabilities, unlike)
