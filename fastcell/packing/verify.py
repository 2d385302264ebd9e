"""Check that a data set is complete and undamaged: its tables, its shards and the stored bytes of every cell."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from pyarrow import csv

from fastcell.dataset.integrity import IntegrityReport, check_stored_bytes
from fastcell.dataset.manifest import Manifest, open_once
from fastcell.dataset.shard_structure import HeaderChecks
from fastcell.errors import DataError, FastcellError
from fastcell.splits.copies.exact import read_duplicates
from fastcell.storage.whole_files import replace_file
from fastcell.system.messages import explained
from fastcell.system.progress_line import Progress
from fastcell.system.text import join_lines
from fastcell.system.worker_processes import num_threads, run_tasks

_MOST_PROBLEMS = 10


@dataclass(frozen=True)
class Verdict:
    """Result of `verify`.

    Attributes:
        problems: problems of tables and whole shards, one sentence each.
        losses: the corrupt cells, i.e. those whose stored bytes differ from the bytes that were packed.
        num_bytes: stored bytes of the cells that were read.
        seconds: time that reading took, in s.
    """

    problems: list[str]
    losses: IntegrityReport
    num_bytes: int
    seconds: float

    @property
    def whole(self) -> bool:
        """True if no problem and no corrupt cell was found."""
        return not self.problems and not len(self.losses)

    def describe(self) -> str:
        """Return the lines to print: problems and corrupt cells, if any; then cells, bytes, seconds and rate."""
        lines = [f"problem: {line}" for line in self.problems[:_MOST_PROBLEMS]]
        if len(self.problems) > _MOST_PROBLEMS:
            lines.append(f"and {len(self.problems) - _MOST_PROBLEMS:,} more problems")
        lost = self.losses.describe()
        lines += [*([""] if lines and lost else []), *lost, *([""] if lines or lost else [])]
        num, num_lost = len(self.losses.rows), len(self.losses)
        state = "whole" if self.whole else f"damaged, {num_lost:,} of {num:,} cells corrupt"
        rate = f"{num / max(self.seconds, 1e-9):,.0f} cells/s"
        done = f"{num:,} cells, {self.num_bytes / 1e6:,.1f} MB checked in {self.seconds:,.1f} s, {rate}"
        lines.append(f"{state}: {done}")
        return join_lines(lines)


def verify(
    path: str | os.PathLike[str], *, jobs: int | None = None, by_workers: bool = False, verbose: bool = False
) -> Verdict:
    """Check a data set: consistency of its tables, size and headers of each shard, stored bytes of every cell.

    Label files and the padding between cells are not checked. Pixels are not decoded, because their bytes are checked.

    Args:
        path: folder of a packed or indexed data set.
        jobs: number of threads; None for one per CPU.
        by_workers: check shards in the workers of the surrounding `joblib.parallel_config`, which open `path`
            themselves.
        verbose: print rate and remaining time to stderr.

    Returns:
        The problems and corrupt cells that were found.

    Raises:
        ArgumentError: `jobs` is not a number of threads.
        DataError: If dataset.json, manifest.parquet or blocks.parquet is missing, cannot be read, or contradicts the
            others. Nothing can be checked without them.
    """
    threads = num_threads(jobs)
    manifest = Manifest.open(path)
    problems = list(_table_problems(manifest))
    headers = HeaderChecks(manifest)
    num_bytes, start = 0, time.monotonic()
    with Progress(len(manifest), "cells", show=verbose, warmup=threads) as progress:

        def report(rows: np.ndarray, num_read: int) -> None:
            nonlocal num_bytes
            num_bytes += num_read
            problems.extend(headers.after(rows))
            progress.advance(len(rows))

        if by_workers:
            codes = _check_by_workers(manifest, report)
        else:
            codes = check_stored_bytes(manifest, jobs=threads, report=report)
    problems += headers.rest()
    losses = IntegrityReport(manifest, np.arange(len(manifest)), codes)
    return Verdict(problems, losses, num_bytes, time.monotonic() - start)


def _check_by_workers(manifest: Manifest, report: Callable[[np.ndarray, int], None]) -> np.ndarray:
    """Return what `check_stored_bytes` returns; a shard is a task."""
    parts = manifest.rows_by_shard()
    tasks = [(manifest.whole_place, rows) for rows in parts]
    codes = np.zeros(len(manifest), np.uint8)
    with closing(run_tasks(_check_rows, tasks, None)) as done:
        for rows, (found, num_bytes) in zip(parts, done, strict=True):
            codes[rows] = found
            report(rows, num_bytes)
    return codes


def _check_rows(task: tuple[str, np.ndarray]) -> tuple[np.ndarray, int]:
    """Return the codes of the cells of one shard, and the number of their bytes."""
    place, rows = task
    sizes: list[int] = []
    codes = check_stored_bytes(open_once(place), rows, report=lambda _, num_bytes: sizes.append(num_bytes))
    return codes, sum(sizes)


def write_list(path: Path, losses: IntegrityReport) -> None:
    """Write one CSV row per corrupt cell, with columns cell_id, key, shard, class and reason.

    The file is written completely or not at all.

    Args:
        path: file to be written.
        losses: the corrupt cells.

    Raises:
        DataError: If the file cannot be written.
    """
    table = losses.table()
    with explained(f"{path} cannot be written"):
        replace_file(path, lambda file: csv.write_csv(table, file))


def _table_problems(manifest: Manifest) -> Iterator[str]:
    """Yield the problems of tables that later commands would refuse. Opening the manifest has checked the rest."""
    keys = pc.value_counts(manifest.table.column("key"))
    twice = keys.filter(pc.greater(pc.struct_field(keys, "counts"), 1)).to_pylist()
    if twice:
        first = twice[0]["values"]
        yield (
            f"{manifest.place_of('manifest.parquet')}: keys must be unique, got {first!r} for {twice[0]['counts']:,} "
            f"cells (repeated keys: {len(twice):,}); predictions and edited tables name cells by key. Pack "
            "the data again."
        )
    for name in manifest.split_names():
        try:
            manifest.packed_split(name)
        except FastcellError as error:
            yield str(error)
    reads: tuple[Callable[[], object], ...] = (
        manifest.quarantine,
        manifest.features,
        manifest.quality,
        manifest.verdicts,
        lambda: read_duplicates(manifest),
    )
    for read in reads:
        try:
            read()
        except DataError as error:
            yield str(error)
