"""Contestants take turns in one run; a result is a ratio with an interval, and carries its machine and versions.

Results are written by program only, as ``results/BENCH-DEVICE-DATE-COMMIT.json``; ``table.py`` makes the README's
tables of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastcell import doctor, environment

RESULTS_DIR = Path(__file__).parent / "results"


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


@dataclass
class Result:
    """One benchmark run: what ``results/*.json`` holds; rows are dataclasses of one kind."""

    bench: str
    data: str
    settings: dict[str, object]
    rows: Sequence[Any]
    environment: dict[str, object] = field(default_factory=dict)
    commit: str = ""
    date: str = ""

    def save(self, folder: Path = RESULTS_DIR) -> Path:
        """Write the result with its environment; returns the file."""
        self.date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.commit = commit()
        self.environment = {key: value for key, value in doctor.report(probe=False).items() if key != "cache_dir"}
        folder.mkdir(exist_ok=True)
        device = "gpu" if environment.has_gpu() else "cpu"
        path = folder / f"{self.bench}-{device}-{self.date[:10]}-{self.commit}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path


@dataclass
class Turns:
    """What was measured: every contestant in every round.

    Attributes:
        names: of the contestants.
        what: what each does, in one line.
        rate: (rounds, contestants) cells/s.
        cpu_us: (rounds, contestants) CPU time per cell [us].
        cells: (contestants,) cells in one round.
    """

    names: list[str]
    what: dict[str, str]
    rate: np.ndarray
    cpu_us: np.ndarray
    cells: np.ndarray

    def rows(self, reference: str, names: Sequence[str] | None = None) -> list[Row]:
        """Rows of some contestants, compared with one of them round by round."""
        base = self.rate[:, self.names.index(reference)]
        return [self._row(name, self.rate[:, self.names.index(name)] / base) for name in names or self.names]

    def _row(self, name: str, ratio: np.ndarray) -> Row:
        index = self.names.index(name)
        rate, (low, high) = self.rate[:, index], median_interval(ratio)
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
        )


class Done(NamedTuple):
    """What a round of work took, where it measures itself (in another process, or without its start and end)."""

    cells: int
    seconds: float
    cpu_seconds: float


Work = Callable[[], "int | Done"]
"""One round of work: returns the number of cells, or what it measured."""


def time_turns(contestants: Mapping[str, tuple[str, Work]], num_rounds: int = 5, warm_up: int = 1) -> Turns:
    """Run every contestant in every round (A B C, A B C, ...).

    Args:
        contestants: name to (description, work).
        num_rounds: timed rounds.
        warm_up: rounds before them that are not timed.
    """
    names = list(contestants)
    rate = np.zeros((num_rounds, len(names)))
    cpu = np.zeros_like(rate)
    cells = np.zeros(len(names), dtype=np.int64)
    for turn in range(-warm_up, num_rounds):
        for index, name in enumerate(names):
            start, before = time.perf_counter(), cpu_seconds()
            done = contestants[name][1]()
            if not isinstance(done, Done):
                done = Done(done, time.perf_counter() - start, cpu_seconds() - before)
            cells[index], seconds, busy = done
            if turn >= 0:
                rate[turn, index] = cells[index] / seconds
                cpu[turn, index] = busy / cells[index] * 1e6
            print(f"  round {turn + 1} {name}: {cells[index] / seconds:,.0f} cells/s", flush=True)
    return Turns(names, {name: contestants[name][0] for name in names}, rate, cpu, cells)


def median_interval(values: np.ndarray, num_resamples: int = 10_000) -> tuple[float, float]:
    """95 % bootstrap interval of the median of ``values`` (n,)."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (num_resamples, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def print_rows(rows: list[Row], reference: str) -> None:
    """Print a table, ratio first."""
    print(f"\n{'contestant':<32}{'x ' + reference:>24}{'95 %':>16}{'cells/s':>12}{'range':>20}{'CPU us/cell':>13}")
    for row in rows:
        print(
            f"{row.contestant:<32}{row.ratio:>24.2f}{f'{row.ratio_low:.2f}..{row.ratio_high:.2f}':>16}"
            f"{row.cells_per_s:>12,.0f}{f'{row.low:,.0f}..{row.high:,.0f}':>20}{row.cpu_us_per_cell:>13.1f}"
        )


def commit() -> str:
    """Short hash of the checkout's commit, ``-dirty`` where files differ from it, ``unknown`` outside of git."""
    folder = Path(__file__).parent
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], cwd=folder, capture_output=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if changed else name


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended [s]."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
