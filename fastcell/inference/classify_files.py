"""Classify the cells of packed data sets, and of files that ``fastcell pack`` reads, without packing them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.errors import DataError
from fastcell.inference.classified_cells import ClassifiedCells
from fastcell.inference.network_answers import ChunkAnswers, joined_answers
from fastcell.inference.source_cells import SourceCells
from fastcell.inference.unlike.reasons import UnlikeScores, joined_scores
from fastcell.packing.quarantine import describe_reasons
from fastcell.runs.prediction_columns import NOT_READ, event_numbers

if TYPE_CHECKING:
    from fastcell.dataset.manifest import Manifest
    from fastcell.inference.classifier import Classifier


class ClassifiedPart(NamedTuple):
    """Answers for consecutive cells of a source.

    Attributes:
        begin: index of the first cell in the order of the source.
        end: index after the last cell.
        numbers: (n,) int64, indices of the usable cells.
        answers: answers for the usable cells.
        bad: rows of `QUARANTINE_SCHEMA` for the unusable cells.
        bad_numbers: (m,) int64, indices of the unusable cells.
    """

    begin: int
    end: int
    numbers: np.ndarray
    answers: ChunkAnswers
    bad: pa.Table
    bad_numbers: np.ndarray


def classify_source(
    classifier: Classifier, cells: SourceCells, begin: int = 0, jobs: int | None = None
) -> Iterator[ClassifiedPart]:
    """Classify the cells of a source, a chunk at a time.

    Args:
        classifier: the classifier.
        cells: the cells.
        begin: index of the first cell to classify: 0, or the end of an earlier part.
        jobs: number of worker processes that decode; None for one per CPU, or for no process if there are few cells.
    """
    for chunk in cells.chunks(classifier.chunk, begin, jobs):
        pitches = cells.pitches(chunk.numbers)
        answers = classifier.classify_chunk(chunk.cells, cells.window, pitches)
        yield ClassifiedPart(begin, chunk.end, chunk.numbers, answers, chunk.bad, chunk.bad_numbers)
        begin = chunk.end


@dataclass
class SourceAnswers:
    """Answers for a source, collected from its parts.

    Attributes:
        classes: K class names.
        cells: the source.
        parts: the parts classified so far, in their order.
    """

    classes: list[str]
    cells: SourceCells
    parts: list[ClassifiedPart] = field(default_factory=list)

    def collect(self) -> ClassifiedCells:
        """Return the answers in the order of ``fastcell predict``: usable cells first, then quarantined ones.

        A list of files keeps its order. A file that cannot be read at all has no row.

        Raises:
            DataError: no cell is usable.
        """
        cells, parts = self.cells, self.parts
        numbers = np.concatenate([part.numbers for part in parts])
        bad_numbers = np.concatenate([part.bad_numbers for part in parts])
        bad = pa.concat_tables([*(part.bad for part in parts), cells.rejected])
        if not len(numbers) and not cells.in_given_order:
            raise DataError(f"no usable cell: {describe_reasons(bad)}. Check the path and its pattern.")
        answers = joined_answers([part.answers for part in parts])
        found = _with_unanswered(self.classes, cells.keys(numbers), cells.groups(numbers), answers, bad)
        if not cells.in_given_order:
            return found
        places = np.argsort(np.concatenate([numbers, bad_numbers]), kind="stable")
        return _rows(found, places)


def _with_unanswered(
    classes: list[str], keys: list[str], groups: list[str | None], answers: ChunkAnswers, quarantine: pa.Table
) -> ClassifiedCells:
    """Append rows for quarantined cells to answers; quarantined files get no row."""
    whole = pc.equal(quarantine.column("key"), quarantine.column("source"))
    bad = quarantine.filter(pc.invert(whole))
    events = event_numbers(pa.chunked_array([pa.array(keys, pa.string())]), np.arange(len(keys))).tolist()
    nothing: list[None] = [None] * bad.num_rows
    missing = np.full((bad.num_rows, len(classes)), np.nan, np.float32)
    unlike = None if answers.unlike is None else joined_scores([answers.unlike, UnlikeScores.none(bad.num_rows)])
    return ClassifiedCells(
        classes,
        np.concatenate([answers.probabilities, missing]),
        [*keys, *bad.column("key").to_pylist()],
        [*groups, *bad.column("group").to_pylist()],
        [*events, *nothing],
        [*([None] * len(keys)), *bad.column("reason").to_pylist()],
        unlike,
    )


def _rows(answers: ClassifiedCells, places: np.ndarray) -> ClassifiedCells:
    """Return the answers at these places; events count through them."""
    order = places.tolist()
    assert answers.keys is not None
    assert answers.groups is not None
    assert answers.reasons is not None
    return ClassifiedCells(
        answers.classes,
        answers.probabilities[places],
        [answers.keys[place] for place in order],
        [answers.groups[place] for place in order],
        list(range(len(order))),
        [answers.reasons[place] for place in order],
        None if answers.unlike is None else answers.unlike.at(places),
    )


def classify_packed(classifier: Classifier, folder: Path) -> ClassifiedCells:
    """Classify every cell of a packed data set, with the rows and the order of ``fastcell predict``.

    Raises:
        ArgumentError: data set and run have 16-bit cells with different windows.
        DataError: the data set is damaged. Single corrupt cells get a reason instead.
    """
    from fastcell.loading.datamodule import CellDataModule

    data = CellDataModule(str(folder), eval_batch_size=classifier.chunk, threads=classifier.threads)
    data.use_preprocessing(classifier.preprocessing, classifier.classes)
    manifest = data.manifest
    probabilities = np.full((len(manifest), len(classifier.classes)), np.nan, np.float32)
    unlike = None if classifier.known is None else UnlikeScores.none(len(manifest))
    for batch in data.predict_dataloader():
        good = batch.weight.numpy() > 0
        found = classifier.classify_images(batch.images.numpy())
        ids = batch.cell_ids.numpy()[good]
        probabilities[ids] = found.probabilities[good]
        if unlike is not None and found.unlike is not None:
            unlike.scores[ids], unlike.off[ids] = found.unlike.at(good)
    answers = ChunkAnswers(probabilities, unlike)
    return _of_manifest(classifier.classes, manifest, answers, data.corrupt_cells.reasons)


def _of_manifest(
    classes: list[str], manifest: Manifest, answers: ChunkAnswers, reasons: dict[int, str]
) -> ClassifiedCells:
    keys, groups = (manifest.table.column(name).to_pylist() for name in ("key", "group"))
    found = _with_unanswered(classes, keys, groups, answers, manifest.quarantine())
    probabilities = answers.probabilities
    known = np.isfinite(probabilities).all(axis=1) | ~np.isnan(probabilities).all(axis=1)
    assert found.reasons is not None
    of_cells = [None if fine else reasons.get(row, NOT_READ) for row, fine in enumerate(known.tolist())]
    return ClassifiedCells(
        found.classes,
        found.probabilities,
        found.keys,
        found.groups,
        found.events,
        [*of_cells, *found.reasons[len(of_cells) :]],
        found.unlike,
    )
