"""Check whether a data set is whole, by its tables, its shards and the bytes of every cell."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyarrow import csv

from fastcell.dataset.integrity import Losses, check_cells
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_structure import Heads
from fastcell.errors import DataError, FastcellError, invalid
from fastcell.splits.copies.exact import read_duplicates
from fastcell.storage.whole_files import replace_file
from fastcell.system.messages import explained
from fastcell.system.progress_line import Progress
from fastcell.system.resources import num_cpus

_MOST_PROBLEMS = 10


@dataclass(frozen=True)
class Verdict:
    """What `verify` has found.

    Attributes:
        problems: what is wrong with tables and shards as a whole, one sentence each.
        losses: the cells whose bytes are not those that were packed.
        num_bytes: stored bytes of the cells that were read.
        seconds: that reading took.
    """

    problems: list[str]
    losses: Losses
    num_bytes: int
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether nothing was found."""
        return not self.problems and not len(self.losses)

    def describe(self) -> str:
        """The lines to print: problems and losses where there are any, and last cells, bytes, seconds and rate."""
        lines = [f"problem: {line}" for line in self.problems[:_MOST_PROBLEMS]]
        if len(self.problems) > _MOST_PROBLEMS:
            lines.append(f"and {len(self.problems) - _MOST_PROBLEMS:,} more problems")
        lost = self.losses.describe()
        lines += [*([""] if lines and lost else []), *lost, *([""] if lines or lost else [])]
        num, num_lost = len(self.losses.rows), len(self.losses)
        state = "whole" if self.whole else f"damaged, {num_lost:,} of {num:,} cells lost"
        rate = f"{num / max(self.seconds, 1e-9):,.0f} cells/s"
        done = f"{num:,} cells, {self.num_bytes / 1e6:,.1f} MB checked in {self.seconds:,.1f} s, {rate}"
        lines.append(f"{state}: {done}")
        return "\n".join(lines)


def verify(path: str | os.PathLike[str], *, jobs: int | None = None, verbose: bool = False) -> Verdict:
    """Check a data set: its tables against each other, each shard's size and headers, every cell's stored bytes.

    Not looked at: label files and padding between the cells, and the pixels, which are decoded from the bytes checked.

    Args:
        path: folder of a packed or indexed data set.
        jobs: threads; None: one for each CPU.
        verbose: print rate and time left to stderr.

    Raises:
        ArgumentError: `jobs` is out of its rule.
        DataError: dataset.json, manifest.parquet or blocks.parquet is missing or cannot be read, or they contradict:
            nothing can be checked without them.
    """
    if jobs is not None and jobs < 1:
        raise invalid("--jobs", "a number >= 1", jobs, "Leave it out for one thread for each CPU")
    manifest = Manifest.open(path)
    problems = list(_table_problems(manifest))
    heads = Heads(manifest)
    num_bytes, start = 0, time.monotonic()
    with Progress(len(manifest), "cells", show=verbose) as progress:

        def report(rows: np.ndarray, num_read: int) -> None:
            nonlocal num_bytes
            num_bytes += num_read
            problems.extend(heads.after(rows))
            progress.advance(len(rows))

        codes = check_cells(manifest, jobs=jobs or num_cpus(), report=report)
    problems += heads.rest()
    losses = Losses(manifest, np.arange(len(manifest)), codes)
    return Verdict(problems, losses, num_bytes, time.monotonic() - start)


def write_list(path: Path, losses: Losses) -> None:
    """Write one CSV row per lost cell, with columns cell_id, key, shard, class and reason; whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    table = losses.table()
    with explained(f"{path} cannot be written"):
        replace_file(path, lambda file: csv.write_csv(table, file))


def _table_problems(manifest: Manifest) -> Iterator[str]:
    """What is wrong with the tables beside the manifest, which is checked when it is opened."""
    for name in manifest.split_names():
        try:
            manifest.split(name)
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
