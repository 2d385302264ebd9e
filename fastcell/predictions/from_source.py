"""Classify files that are not packed and write the predictions, in a way that an interrupted run can resume.

Parts of some thousand cells are saved beside the output. A run that resumes keeps the parts whose files have the same
size and modification time, up to the first one that differs, and writes the same bytes as an uninterrupted run. One
process runs the network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.instrument_features import write_features
from fastcell.dataset.schema import FORMAT_VERSION
from fastcell.inference.classifier import Classifier
from fastcell.inference.classify_files import ClassifiedPart, SourceAnswers, classify_source
from fastcell.inference.network_answers import ChunkAnswers, joined_answers
from fastcell.inference.source_cells import SourceCells
from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.predictions.convert import write_predictions
from fastcell.predictions.prediction_summary import PredictionSummary
from fastcell.predictions.saved_parts import UNLIKE_PIECES
from fastcell.predictions.table import Predictions
from fastcell.storage.saved_pieces import load_pieces, save_pieces
from fastcell.storage.staging import Staging, describe_job, open_staging_of
from fastcell.system.progress_line import Progress
from fastcell.system.text import printable

SAVE_PART_EVERY_S = 30.0


def predict_source(
    classifier: Classifier,
    cells: SourceCells,
    out: Path,
    checkpoint: Path,
    say: Callable[[str], None],
    *,
    min_confidence: float = 0.0,
    jobs: int | None = None,
) -> Predictions:
    """Classify the cells of a source and write the table that ``fastcell pack`` and ``fastcell predict`` would give.

    Args:
        classifier: the classifier.
        cells: the source.
        out: file to write: .csv, .parquet or .fcs.
        checkpoint: file from which the classifier was loaded.
        say: function that receives one line for the user.
        min_confidence: a cell with a lower confidence is unsure.
        jobs: number of worker processes that decode; None for one per CPU, or for no process if there are few cells.

    Returns:
        The table that was written.

    Raises:
        BusyError: another run writes the same file.
        DataError: no cell is usable.
    """
    with open_staging_of(out, say) as stage:
        stage.begin(_job(classifier, cells, checkpoint))
        answers = SourceAnswers(list(classifier.classes), cells, _saved_parts(stage, cells))
        begin = answers.parts[-1].end if answers.parts else 0
        with Progress(len(cells), "cells") as progress:
            progress.advance(begin, reused=True)
            _classify_rest(classifier, cells, stage, answers, begin, jobs, progress)
        return write_source_answers(answers, out, stage, say, min_confidence)


def write_source_answers(
    answers: SourceAnswers, out: Path, stage: Staging, say: Callable[[str], None], min_confidence: float = 0.0
) -> Predictions:
    """Write the answers for a source as a table.

    Args:
        answers: answers for all cells of the source.
        out: file to write: .csv, .parquet or .fcs.
        stage: staging folder of `out`.
        say: function that receives one line for the user.
        min_confidence: a cell with a lower confidence is unsure.

    Returns:
        The table that was written.

    Raises:
        DataError: no cell is usable.
    """
    found = answers.collect()
    if found.unlike is None:  # the columns are there nevertheless, as of a packed data set
        found = replace(found, unlike=UnlikeScores.none(len(found)))
    table = found.to_table(min_confidence)
    for line in write_predictions(out, table, answers.classes, _manifest(stage, answers.cells, table, out)):
        say(line)
    return Predictions(table, list(answers.classes), out)


def _classify_rest(
    classifier: Classifier,
    cells: SourceCells,
    stage: Staging,
    answers: SourceAnswers,
    begin: int,
    jobs: int | None,
    progress: Progress,
) -> None:
    unsaved: list[ClassifiedPart] = []
    last = time.monotonic()
    try:
        for part in classify_source(classifier, cells, begin, jobs):
            answers.parts.append(part)
            unsaved.append(part)
            progress.advance(part.end - part.begin)
            if time.monotonic() - last >= SAVE_PART_EVERY_S:
                _save(stage, cells, unsaved)
                last = time.monotonic()
    except (KeyboardInterrupt, SystemExit):
        _save(stage, cells, unsaved)
        raise


def _job(classifier: Classifier, cells: SourceCells, checkpoint: Path) -> dict[str, object]:
    """Return everything that the predictions depend on."""
    network = classifier.backend
    return {
        **describe_job("predict", FORMAT_VERSION),
        "source": cells.source.describe(),
        "cells": cells.digest(),
        "checkpoint": blake2b(checkpoint.read_bytes(), digest_size=16).hexdigest(),
        "classes": classifier.classes,
        "tta": classifier.tta,
        "chunk": classifier.chunk,
        "backend": [network.name, network.precision, str(getattr(network, "version", ""))],
    }


def _save(stage: Staging, cells: SourceCells, parts: list[ClassifiedPart]) -> None:
    """Save parts as one file and empty the list."""
    if not parts:
        return
    begin, end = parts[0].begin, parts[-1].end
    numbers, bad_numbers = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("numbers", "bad_numbers")
    )
    answers = joined_answers([part.answers for part in parts])
    columns = {"number": numbers}
    if answers.unlike is not None:
        columns |= dict(zip(UNLIKE_PIECES, (answers.unlike.scores, *answers.unlike.off.T), strict=True))
    columns |= {str(number): column for number, column in enumerate(answers.probabilities.T)}
    good = pa.table({name: pa.array(column) for name, column in columns.items()})
    bad = pa.concat_tables([part.bad for part in parts]).append_column("number", pa.array(bad_numbers))
    facts = {"stamp": cells.stamp(begin, end)}
    save_pieces(stage.saved_dir / f"{begin:012d}-{end:012d}.saved", facts, [good, bad])
    parts.clear()


def _saved_parts(stage: Staging, cells: SourceCells) -> list[ClassifiedPart]:
    """Return the parts of an interrupted run, up to the first one that is missing or whose files have changed."""
    parts: list[ClassifiedPart] = []
    for path in sorted(stage.saved_dir.glob("*.saved")):
        begin, end = (int(text) for text in path.stem.split("-"))
        there = begin == (parts[-1].end if parts else 0) and end <= len(cells)
        saved = load_pieces(path, cells.stamp(begin, end)) if there else None
        if saved is None:
            path.unlink()
            continue
        good, bad = saved.tables
        columns = {name: good.column(name).to_numpy() for name in good.column_names[1:]}
        unlike = None
        if UNLIKE_PIECES[0] in columns:
            score, *off = (columns.pop(name) for name in UNLIKE_PIECES)
            unlike = UnlikeScores(score, np.stack(off, axis=1))
        answers = ChunkAnswers(np.stack(list(columns.values()), axis=1), unlike)
        numbers, bad_numbers = (table.column("number").to_numpy() for table in (good, bad))
        parts.append(ClassifiedPart(begin, end, numbers, answers, bad.drop_columns("number"), bad_numbers))
    return parts


def _manifest(stage: Staging, cells: SourceCells, table: pa.Table, out: Path) -> Manifest:
    """Return keys and, for FCS, the features of the cells as those of a data set."""
    features = cells.listing.features
    if features is not None and out.suffix == ".fcs":
        write_features(stage.data_dir, features, table.column("key"))
    return Manifest(stage.data_dir, DatasetInfo("cells"), table.select(["key"]))


def closing_lines(predictions: Predictions, seconds: float) -> list[str]:
    """Return what ``fastcell predict`` prints at its end: cells by class, unlike cells, rows, rate, file."""
    summary, out = PredictionSummary(predictions.classes), printable(predictions.path)
    summary.add(predictions.table)
    lines = summary.lines()
    if summary.num_without_class:
        lines.append(f"cells without a class: {summary.num_without_class:,}; column reason of {out} says why")
    rate = f"{len(predictions) / max(seconds, 1e-9):,.0f} cells/s"
    return [*lines, f"{len(predictions):,} rows, {rate}, {out}"]
