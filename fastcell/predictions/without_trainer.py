"""Classify the cells of a packed data set in one process, with a backend that needs neither torch nor Lightning."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastcell.dataset.corrupt_cells import CorruptCells, corrupt_cells_table, describe_corrupt_cells
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.schema import SubsetName
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import StoppedError, invalid
from fastcell.inference.backends.interface import NetworkBackend
from fastcell.inference.backends.network_files import NetworkDescription
from fastcell.loading.ranks import chunks_left
from fastcell.predictions.answer_limits import AnswerLimits, answer_limits
from fastcell.predictions.classified_chunks import ChunkSettings, EngineJob, classified_chunks, classified_on_engine
from fastcell.predictions.growing_table import finish_table, grow_table
from fastcell.predictions.saved_parts import PartStore, saved_parts
from fastcell.remote.object_cache import ObjectCache
from fastcell.system.messages import print_line
from fastcell.system.signals import handle_signals
from fastcell.system.text import join_lines, printable


@dataclass(frozen=True)
class PredictionTask:
    """Cells to classify, and where their predictions go.

    Attributes:
        manifest: manifest of the data set.
        checkpoint: file of the weights.
        out: output file.
        split_name: name of the split.
        subset: ``train``, ``valid`` or ``test``; None for every cell.
        chunk: cells of a chunk.
        threads: threads, >= 1.
        tta: average the probabilities over the four flips.
        on_bad_cell: ``replace`` or ``error``.
        on_engine: classify on the workers of the surrounding `fastcell.system.engines.use_engine`, one thread each.
        cache: their cache of a data set at an address; None for the default one.
    """

    manifest: Manifest
    checkpoint: Path
    out: Path
    split_name: str = "default"
    subset: SubsetName | None = None
    chunk: int = 256
    threads: int = 1
    tta: bool = False
    on_bad_cell: str = "replace"
    on_engine: bool = False
    cache: ObjectCache | None = None


def predict_without_trainer(
    task: PredictionTask, backend: NetworkBackend, network: NetworkDescription, limits: AnswerLimits | None = None
) -> None:
    """Classify the cells, write the table and print the number of cells of each class.

    Results of an interrupted run of the same task are reused.

    Args:
        task: cells and output.
        backend: backend that runs the network.
        network: description of the network.
        limits: temperature and statistics of training cells; None for those of a checkpoint without them.

    Raises:
        BusyError: another run is writing the same file.
        StoppedError: SIGTERM stopped the run; the finished predictions are saved.
        ArgumentError: there are no cells, or they have another grey-level window than those of training.
        DataError: cells are corrupt and `on_bad_cell` is ``error``.
    """
    _check_window(task.manifest, network)
    try:
        _predict(task, backend, network, limits or answer_limits({}, network.classes))
    except _Terminated:
        text = "stopped by SIGTERM. The same command resumes from there."
        raise StoppedError(text, signal.SIGTERM) from None


class _Terminated(KeyboardInterrupt):
    """Raised by SIGTERM. Saved parts are kept, as after Ctrl-C."""


def _predict(task: PredictionTask, backend: NetworkBackend, network: NetworkDescription, limits: AnswerLimits) -> None:
    manifest = task.manifest
    rows = select(manifest, ViewConfig(task.subset, task.split_name, quality=False)).rows
    corrupt_cells = CorruptCells(manifest, task.on_bad_cell)
    settings = {
        "classes": network.classes,
        "tta": task.tta,
        "chunk": task.chunk,
        "predict_split": task.subset,
        "backend": backend.name,
        "precision": backend.precision,
        "unlike": limits.known is not None,
    }
    for line in limits.lines:
        print_line(line)
    start, num = time.monotonic(), 0
    with saved_parts(task.out, manifest, task.checkpoint, settings, print_line) as stage, ExitStack() as stack:
        store = PartStore(corrupt_cells)
        store.growing = grow_table(task.out, manifest, network.classes, rows, limits, lambda: corrupt_cells.reasons)
        stack.callback(store.stop_growing)
        is_left = chunks_left(rows, store.take_over(stage.saved_dir), task.chunk)
        left = rows if is_left.all() else rows[is_left]
        store.begin(stage.saved_dir)
        chunks = ChunkSettings(task.chunk, task.tta, limits.known)
        if task.on_engine:
            names = backend.name, backend.precision
            job = EngineJob(
                manifest.whole_place, task.cache, task.checkpoint.absolute(), *names, chunks, task.on_bad_cell
            )
            classified = classified_on_engine(job, left, corrupt_cells)
        else:
            classified = classified_chunks(left, backend, network, corrupt_cells, chunks, task.threads)
        with _saved_at_the_end(store):
            for found in classified:
                store.add(*found)
                num += len(found.cell_ids)
                if store.is_due:
                    store.save()
        summary, lines = finish_table(store, task.out, manifest, network.classes, rows, limits)
    seconds = time.monotonic() - start
    if store.reasons:
        print_line(describe_corrupt_cells(corrupt_cells_table(manifest, store.reasons)))
    print_line(join_lines([*lines, *summary.lines()]))
    if summary.num_not_finite:
        text = "cells without a class, because the network gives them no finite probability"
        print_line(f"{text}: {summary.num_not_finite:,}")
    print_line(f"{summary.num_rows:,} rows, {num / max(seconds, 1e-9):,.0f} cells/s, {printable(task.out)}")


def _check_window(manifest: Manifest, network: NetworkDescription) -> None:
    here, there = manifest.info.window, network.preprocessing.window
    if here is not None and there is not None and tuple(here) != tuple(there):
        raise invalid(
            "window of the data",
            f"{there[0]:g} to {there[1]:g} as in training",
            f"{here[0]:g} to {here[1]:g}",
            f"Pack them with --window {there[0]:g} {there[1]:g}",
        )


@contextmanager
def _saved_at_the_end(store: PartStore) -> Iterator[None]:
    """Save the finished predictions when the context ends, whatever ends it. SIGTERM raises `_Terminated` in it."""

    def stop() -> None:
        raise _Terminated

    try:
        with handle_signals(stop, signal.SIGTERM):
            yield
    finally:
        store.save()
