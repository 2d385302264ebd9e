"""Contestants take turns in one run; a result is a ratio with an interval, and carries its machine and versions.

Results are written by program only, as ``results/BENCH-DEVICE-DATE-COMMIT.json`` (`result_files`); ``table.py`` makes
the tables of README and docs of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from result_files import write_result

from fastcell.system import environment_report, resources

RESULTS_DIR = Path(__file__).parent / "results"
_LOAD_AT_START = os.getloadavg()


@dataclass
class Row:
    """One contestant's figures.

    Attributes:
        contestant: name shown in tables.
        what: what it does, in one line.
        cells_per_s: median over the rounds, wall clock.
        low, high: smallest and largest round.
        cpu_us_per_cell: median CPU time of all its threads and processes [us].
        num_rounds: n.
        num_cells: cells in one round.
        ratio: median over rounds of this contestant's rate over the reference's in the same round.
        ratio_low, ratio_high: 95 % bootstrap interval of that median over the rounds.
        data: what the cells are and how they lie ("ragged JPEG, cell layout").
        size: side of the images [px]; 0 where there is none.
        batch: cells in a batch; 0 where there is none.
        dtype: of the images.
        device: where the images end, "cpu" or "cuda:0".
        threads: cores it may use; 0 where nobody said.
        peak_rss_mb: most memory of its processes at a time, pages shared by several counted once [MB, 10**6 bytes].
            Only where the contestant has processes of its own; None elsewhere.
        gpu_memory_mb: GPU memory that was taken by it, its context with it [MB].
        first_batch_s: median over the rounds, warm: from asking for an epoch to its first batch [s].
        first_batch_cold_s: the same for the first epoch of a fresh process, which also opens the data and loads
            compiled code; imports are not counted, the files are in the page cache [s].
    """

    contestant: str
    what: str
    cells_per_s: float
    low: float
    high: float
    cpu_us_per_cell: float
    num_rounds: int
    num_cells: int
    ratio: float
    ratio_low: float
    ratio_high: float
    data: str = ""
    size: int = 0
    batch: int = 0
    dtype: str = ""
    device: str = "cpu"
    threads: int = 0
    peak_rss_mb: float | None = None
    gpu_memory_mb: float | None = None
    first_batch_s: float | None = None
    first_batch_cold_s: float | None = None


@dataclass
class Result:
    """One benchmark run: what ``results/*.json`` holds; rows are dataclasses of one kind.

    Attributes:
        bench: name of the result.
        data: what the cells are.
        settings: of the run.
        rows: one dataclass per line of the table.
        environment: of the machine, set by `save`.
        commit: of the checkout, set by `save`.
        date: UTC, set by `save`.
        absent: contestants that could not take part, with the reason.
        packages: versions of a peer's own environment.
    """

    bench: str
    data: str
    settings: dict[str, object]
    rows: Sequence[Any]
    environment: dict[str, object] = field(default_factory=dict)
    commit: str = ""
    date: str = ""
    absent: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)

    def save(self, folder=RESULTS_DIR):
        """Write the result with its environment as one JSON file; returns its path."""
        self.date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.commit = commit()
        self.environment = describe_machine()
        folder.mkdir(exist_ok=True)
        device = "gpu" if resources.has_gpu() else "cpu"
        path = folder / f"{self.bench}-{device}-{self.date[:10]}-{self.commit}.json"
        return write_result(path, asdict(self))


def describe_machine():
    """CPU, GPUs with driver, CUDA of the driver and of torch, versions, and the load average at start and now."""
    found = {key: value for key, value in environment_report.describe_environment().items() if key != "cache_dir"}
    torch = sys.modules.get("torch")
    found["torch_cuda"] = None if torch is None else torch.version.cuda
    # Of one, five and fifteen minutes; the run itself is in the second.
    found["load_average_start"], found["load_average_end"] = list(_LOAD_AT_START), list(os.getloadavg())
    return found


class Done(NamedTuple):
    """What a round of work took, where it measures itself (in another process, or without its start and end)."""

    cells: int
    seconds: float
    cpu_seconds: float
    first_batch_s: float | None = None
    peak_rss_mb: float | None = None
    gpu_memory_mb: float | None = None


Work = Callable[[], "int | Done"]
"""One round of work: returns the number of cells, or what it measured."""


@dataclass
class Contestant:
    """Who takes a turn; the fields behind `work` are those of `Row`."""

    what: str
    work: Work
    data: str = ""
    size: int = 0
    batch: int = 0
    dtype: str = ""
    device: str = "cpu"
    threads: int = 0
    first_batch_cold_s: float | None = None


@dataclass
class Turns:
    """What was measured: every contestant in every round.

    Attributes:
        names: of the contestants.
        what: what each does, in one line.
        rate: (rounds, contestants) cells/s.
        cpu_us: (rounds, contestants) CPU time per cell [us].
        cells: (contestants,) cells in one round.
        contestants: by name.
        first_batch_s: (rounds, contestants), NaN where nobody measured it.
        peak_rss_mb, gpu_memory_mb: (contestants,) the most in any round, also one not timed; NaN where not measured.
    """

    names: list[str]
    what: dict[str, str]
    rate: np.ndarray
    cpu_us: np.ndarray
    cells: np.ndarray
    contestants: dict[str, Contestant] = field(default_factory=dict)
    first_batch_s: np.ndarray | None = None
    peak_rss_mb: np.ndarray | None = None
    gpu_memory_mb: np.ndarray | None = None

    def rows(self, reference, names=None):
        """Rows of some contestants, compared with one of them round by round."""
        base = self.rate[:, self.names.index(reference)]
        return [self._row(name, self.rate[:, self.names.index(name)] / base) for name in names or self.names]

    def _row(self, name, ratio):
        index = self.names.index(name)
        rate, (low, high) = self.rate[:, index], median_interval(ratio)
        entry = self.contestants.get(name) or Contestant(self.what[name], lambda: 0)
        return Row(
            contestant=name,
            what=self.what[name],
            cells_per_s=float(np.median(rate)),
            low=float(rate.min()),
            high=float(rate.max()),
            cpu_us_per_cell=float(np.median(self.cpu_us[:, index])),
            num_rounds=len(rate),
            num_cells=int(self.cells[index]),
            ratio=float(np.median(ratio)),
            ratio_low=low,
            ratio_high=high,
            data=entry.data,
            size=entry.size,
            batch=entry.batch,
            dtype=entry.dtype,
            device=entry.device,
            threads=entry.threads,
            peak_rss_mb=_known(self.peak_rss_mb, index),
            gpu_memory_mb=_known(self.gpu_memory_mb, index),
            first_batch_s=None if self.first_batch_s is None else _known(np.median(self.first_batch_s, axis=0), index),
            first_batch_cold_s=entry.first_batch_cold_s,
        )


def _known(values, index):
    return None if values is None or np.isnan(values[index]) else float(values[index])


def time_turns(contestants, num_rounds=5, warm_up=1):
    """Run every contestant in every round (A B C, A B C, ...).

    Args:
        contestants: name to `Contestant`, or to (description, work).
        num_rounds: timed rounds.
        warm_up: rounds before them that are not timed.
    """
    entries = {
        name: entry if isinstance(entry, Contestant) else Contestant(*entry) for name, entry in contestants.items()
    }
    names = list(entries)
    rate = np.zeros((num_rounds, len(names)))
    cpu, first = np.zeros_like(rate), np.full_like(rate, np.nan)
    cells = np.zeros(len(names), dtype=np.int64)
    memory = np.full((2, len(names)), np.nan)
    for turn in range(-warm_up, num_rounds):
        for index, name in enumerate(names):
            start, before = time.perf_counter(), cpu_seconds()
            done = entries[name].work()
            if not isinstance(done, Done):
                done = Done(done, time.perf_counter() - start, cpu_seconds() - before)
            cells[index] = done.cells
            if turn >= 0:
                rate[turn, index] = done.cells / done.seconds
                cpu[turn, index] = done.cpu_seconds / done.cells * 1e6
                first[turn, index] = np.nan if done.first_batch_s is None else done.first_batch_s
            for kind, taken in enumerate((done.peak_rss_mb, done.gpu_memory_mb)):
                if taken is not None:
                    memory[kind, index] = np.fmax(memory[kind, index], taken)
            print(f"  round {turn + 1} {name}: {done.cells / done.seconds:,.0f} cells/s", flush=True)
    what = {name: entry.what for name, entry in entries.items()}
    return Turns(names, what, rate, cpu, cells, entries, first, memory[0], memory[1])


def median_interval(values, num_resamples=10_000):
    """95 % bootstrap interval of the median of ``values`` (n,)."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (num_resamples, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def print_rows(rows, reference):
    """Print a table, ratio first."""
    print(f"\n{'contestant':<32}{'x ' + reference:>24}{'95 %':>16}{'cells/s':>12}{'range':>20}{'CPU us/cell':>13}")
    for row in rows:
        print(
            f"{row.contestant:<32}{row.ratio:>24.2f}{f'{row.ratio_low:.2f}..{row.ratio_high:.2f}':>16}"
            f"{row.cells_per_s:>12,.0f}{f'{row.low:,.0f}..{row.high:,.0f}':>20}{row.cpu_us_per_cell:>13.1f}"
        )


def commit():
    """Short hash of the newest published commit in the checkout's history, ``unknown`` outside of git.

    ``-dirty`` follows where the checkout has changes of its own, committed or not: a commit that is not published yet
    may get another hash, and a result must not name one that nobody finds. Published is what ``origin/main`` holds;
    without that branch, every commit is.
    """
    folder = Path(__file__).parent

    def git(*words):
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        newest, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
        known = git("for-each-ref", "--format=%(refname)", "refs/remotes/origin/main")
        published = git("merge-base", "HEAD", known) if known else newest
        name = git("rev-parse", "--short", published)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if changed or published != newest else name


def cpu_seconds():
    """CPU time of this process and of its children that have ended [s]."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
