"""Probabilities and scores of the cells of a packed data set, chunk by chunk, here or by the workers of an engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import numpy as np

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.inference.backends.choice import open_prepared
from fastcell.inference.backends.interface import NetworkBackend
from fastcell.inference.backends.network_files import NetworkDescription, NetworkFiles
from fastcell.inference.network_answers import features_and_answers
from fastcell.inference.unlike.image_features import network_image_features
from fastcell.inference.unlike.reasons import UnlikeScores, joined_scores
from fastcell.loading.chunk_work import work_on_chunks
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.system.progress_line import Progress

if TYPE_CHECKING:
    from fastcell.inference.unlike.training_cells import TrainingCells
    from fastcell.remote.object_cache import ObjectCache

_TASK_CELLS = 1 << 14


class Classified(NamedTuple):
    """Answers for n cells.

    Attributes:
        cell_ids: (n,) int64, without corrupt cells.
        probabilities: (n, K) float32, not calibrated.
        unlike: scores of cells unlike those of training.
    """

    cell_ids: np.ndarray
    probabilities: np.ndarray
    unlike: UnlikeScores


@dataclass(frozen=True)
class ChunkSettings:
    """What the answers depend on besides cells and network.

    Attributes:
        chunk: cells of a chunk.
        tta: average the probabilities over the four flips.
        known: statistics of training cells; None for no scores.
    """

    chunk: int
    tta: bool
    known: TrainingCells | None


def classified_chunks(
    rows: np.ndarray,
    backend: NetworkBackend,
    network: NetworkDescription,
    corrupt_cells: CorruptCells,
    settings: ChunkSettings,
    threads: int,
) -> Iterator[Classified]:
    """Yield the answers for the good cells, chunk by chunk.

    Args:
        rows: (n,) int64, cells of ``corrupt_cells.manifest`` in stored order.
        backend, network: the network.
        corrupt_cells: collection that corrupt cells are added to.
        settings: chunk, flips and statistics.
        threads: threads, >= 1.

    Raises:
        DataError: cells are corrupt and `corrupt_cells` does not allow it.
    """

    def classify(cells: RaggedCells, images: np.ndarray) -> tuple[np.ndarray, UnlikeScores]:
        num = len(cells)
        if len(images) == 1:  # a batch of one uses a separately compiled network with different rounding
            images = np.concatenate([images, np.zeros_like(images)])
        features, answers = features_and_answers(backend, images, network.loss, settings.tta)
        if settings.known is None:
            return answers[:num], UnlikeScores.none(num)
        return answers[:num], settings.known.measure(network_image_features(images[:num]), features[:num])

    for result in work_on_chunks(
        corrupt_cells.manifest,
        rows,
        settings.chunk,
        network.preprocessing,
        classify,
        corrupt_cells=corrupt_cells,
        threads=threads,
    ):
        answers, unlike = result.value
        yield Classified(result.cell_ids[result.good], answers[result.good], unlike.at(result.good))


@dataclass(frozen=True)
class EngineJob:
    """What a worker opens to classify cells; sent with each task.

    Attributes:
        place: folder or address of the data set, as every worker sees it.
        cache: cache of a data set at an address.
        checkpoint: file of the weights, with the prepared networks beside it.
        program, precision: the backend.
        settings: chunk, flips and statistics.
        on_bad_cell: ``replace`` or ``error``.
        key: distinguishes the commands that one worker serves.
    """

    place: str
    cache: ObjectCache | None
    checkpoint: Path
    program: str
    precision: str
    settings: ChunkSettings
    on_bad_cell: str
    key: str = field(default_factory=lambda: uuid4().hex)


def classified_on_engine(job: EngineJob, rows: np.ndarray, corrupt_cells: CorruptCells) -> Iterator[Classified]:
    """Yield the answers for the good cells, by the workers of the surrounding `fastcell.system.engines.use_engine`.

    They are those of `classified_chunks`: tasks hold whole chunks.

    Args:
        job: what a worker opens.
        rows: (n,) int64, cells in stored order.
        corrupt_cells: collection that the corrupt cells of all workers are added to.

    Raises:
        DataError: cells are corrupt and `corrupt_cells` does not allow it.
    """
    from fastcell.system.worker_processes import run_tasks  # joblib, which one process does without

    size = max(1, _TASK_CELLS // job.settings.chunk) * job.settings.chunk
    tasks = [(job, rows[start : start + size]) for start in range(0, len(rows), size)]
    with Progress(len(rows), "cells") as progress:
        for found, reasons, num in run_tasks(_classify, tasks, None):
            corrupt_cells.add(reasons)
            yield found
            progress.advance(num)


def _classify(task: tuple[EngineJob, np.ndarray]) -> tuple[Classified, dict[int, str], int]:
    job, rows = task
    manifest, backend, network = _opened(job.key, job.place, job.cache, job.checkpoint, job.program, job.precision)
    corrupt_cells = CorruptCells(manifest, job.on_bad_cell)
    parts = list(classified_chunks(rows, backend, network, corrupt_cells, job.settings, threads=1))
    found = Classified(
        np.concatenate([part.cell_ids for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        joined_scores([part.unlike for part in parts]),
    )
    return found, corrupt_cells.reasons, len(rows)


@lru_cache(maxsize=1)
def _opened(
    key: str, place: str, cache: ObjectCache | None, checkpoint: Path, program: str, precision: str
) -> tuple[Manifest, NetworkBackend, NetworkDescription]:
    """Open data set and network once for all tasks of a command."""
    return (Manifest.open(place, cache), *open_prepared(NetworkFiles(checkpoint), program, precision))
