"""Measure how long a cell waits for its answer, and the rate of cells above which some are dropped.

`fastcell.inference.classifier` turns raw arrays into calibrated probabilities, with each backend in alternation. To
measure rates, cells arrive at a constant rate, as from an instrument. The waiting cells are classified together, up to
a maximum number. A cell that arrives while the buffer is full is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import FastcellError
from fastcell.inference.backends.prepare import Preparation
from fastcell.inference.backends.programs import OFFERED, can_run
from fastcell.inference.classifier import Classifier
from fastcell.inference.open_classifier import load
from fastcell.system.cpu_features import HAS_BF16, cpu_features

BUFFER_CELLS = 512
"""Size of the buffer of waiting cells; a cell that arrives at a full buffer is dropped."""
TOGETHER = 256
_MOST_CELLS = 2048
_TURNS = 4  # of each backend in the measurement of single cells
_FEWEST_CALLS = 10  # of a turn, however short
_FEWEST_FOR_P999 = 1000
_WARM_UP_CALLS = 20
_SHARES = (0.25, 0.5, 0.75, 0.9, 1.5)  # shares of the rate of full batches


@dataclass(frozen=True)
class OneCell:
    """Times of calls with one cell.

    Attributes:
        p50, p99, p999, most: percentiles and maximum [ms]; p999 is None with fewer than 1,000 calls.
        cpu_ms: mean processor time of a call, all threads [ms].
        num_calls: number of calls.
    """

    p50: float
    p99: float
    p999: float | None
    most: float
    cpu_ms: float
    num_calls: int


@dataclass(frozen=True)
class AtRate:
    """Result for cells that arrive at a constant rate.

    Attributes:
        cells_per_s: rate of arrival [cells/s].
        p50, p99: time from arrival to answer [ms]; NaN if no cell was answered.
        together: mean number of cells in a call.
        dropped: share of the cells that were dropped.
    """

    cells_per_s: float
    p50: float
    p99: float
    together: float
    dropped: float


@dataclass(frozen=True)
class BackendLatency:
    """Results of one backend: single cells, and rates of arrival in increasing order."""

    backend: str
    one: OneCell
    rates: list[AtRate]

    @property
    def drops_from(self) -> float | None:
        """Lowest measured rate at which cells were dropped [cells/s]; None if none were dropped at any rate."""
        return next((found.cells_per_s for found in self.rates if found.dropped), None)

    @property
    def held(self) -> AtRate | None:
        """Highest measured rate below the lowest one with dropped cells."""
        limit = self.drops_from or float("inf")
        return max(
            (one for one in self.rates if one.cells_per_s < limit), key=lambda one: one.cells_per_s, default=None
        )


def open_backends(
    checkpoint: Path, threads: int, say: Callable[[str], None], trust: Sequence[str] = ()
) -> dict[str, Classifier]:
    """Return a classifier for each backend that can run a checkpoint here, and report the others to `say`.

    Args:
        checkpoint: checkpoint of a run.
        threads: threads of the preprocessing; 0 for all cores.
        say: function that receives a line for the user.
        trust: packages whose code the network may import.
    """
    found: dict[str, Classifier] = {}
    half = any(name in cpu_features() for name in HAS_BF16)
    for program, precisions in OFFERED.items():
        for precision in precisions:
            if not can_run(program, precision, False) or (precision == "bf16" and not half):
                continue
            try:
                if program != "torch":
                    Preparation(checkpoint, say=say, trust=trust).prepare(program, precision)
                options = {"backend": program, "precision": precision, "threads": threads or None, "trust": trust}
                found[f"{program} {precision}"] = load(checkpoint, **options)  # type: ignore[arg-type]
            except FastcellError as error:
                if program == "torch" and precision == "fp32":  # which every network has
                    raise
                say(f"without {program} {precision}: {error}")
    return found


def sample_cells(manifest: Manifest) -> list[np.ndarray]:
    """Return the pixels (H, W) of cells that are spread evenly over a data set, at most 2,048."""
    rows = np.unique(np.linspace(0, len(manifest) - 1, min(len(manifest), _MOST_CELLS)).round().astype(np.int64))
    return [np.array(cell) for cell in read_cells(manifest, rows, verify=False)]


def measure_latency(
    classifiers: Mapping[str, Classifier], cells: Sequence[np.ndarray], seconds: float
) -> list[BackendLatency]:
    """Measure latency and dropped cells of all backends.

    Args:
        classifiers: classifiers by name of the backend.
        cells: one or more cells (H, W).
        seconds: time for all backends together [s]; one half for single cells, the other for rates of arrival.
    """
    ones = measure_single_cells(classifiers, cells, seconds / 2)
    slice_s = max(seconds / 2 / (len(classifiers) * (len(_SHARES) + 1)), 0.05)
    found = []
    for name, classifier in classifiers.items():
        capacity = _capacity(classifier, cells, slice_s)
        rates = [_arrive(classifier, cells, share * capacity, slice_s) for share in _SHARES]
        found.append(BackendLatency(name, ones[name], rates))
    return found


def measure_single_cells(
    classifiers: Mapping[str, Classifier], cells: Sequence[np.ndarray], seconds: float
) -> dict[str, OneCell]:
    """Classify one cell per call, as many cells as the time allows, with the backends in alternation.

    Args:
        classifiers: classifiers by name of the backend.
        cells: one or more cells (H, W).
        seconds: time for all backends together [s]. Each makes at least 10 calls in each of its 4 turns.
    """
    times: dict[str, list[float]] = {name: [] for name in classifiers}
    cpu_s = dict.fromkeys(classifiers, 0.0)
    turn_s = seconds / (_TURNS * len(classifiers))
    for _ in range(_TURNS):
        for name, classifier in classifiers.items():
            for number in range(_WARM_UP_CALLS):
                classifier.predict(cells[number % len(cells)])
            before, end, last = len(times[name]), time.perf_counter() + turn_s, time.perf_counter()
            cpu_begun = time.process_time()
            while last < end or len(times[name]) < before + _FEWEST_CALLS:
                cell = cells[len(times[name]) % len(cells)]
                begun = time.perf_counter()
                classifier.predict(cell)
                last = time.perf_counter()
                times[name].append(last - begun)
            cpu_s[name] += time.process_time() - cpu_begun
    return {name: _one_cell(found, cpu_s[name]) for name, found in times.items()}


def _one_cell(times: Sequence[float], cpu_s: float) -> OneCell:
    p50, p99, p999, most = (1e3 * np.quantile(times, (0.5, 0.99, 0.999, 1.0))).tolist()
    num = len(times)
    return OneCell(p50, p99, p999 if num >= _FEWEST_FOR_P999 else None, most, 1e3 * cpu_s / num, num)


def _capacity(classifier: Classifier, cells: Sequence[np.ndarray], seconds: float) -> float:
    """Return the throughput with full batches [cells/s]."""
    batch = [cells[number % len(cells)] for number in range(TOGETHER)]
    classifier.classify_chunk(batch)
    begun, num = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        classifier.classify_chunk(batch)
        num += len(batch)
    return num / (time.perf_counter() - begun)


def _arrive(classifier: Classifier, cells: Sequence[np.ndarray], rate: float, seconds: float) -> AtRate:
    """Let cells arrive at a constant rate for a given time, classify them, and return latencies and drops."""
    begun = time.perf_counter()
    total = max(1, int(rate * seconds))
    answered, dropped, calls = 0, 0, 0
    waits: list[np.ndarray] = []
    waiting = np.empty(0)  # times of arrival
    seen = 0
    while seen < total or len(waiting):
        now = time.perf_counter() - begun
        arrived = min(total, int(now * rate))
        waiting = np.concatenate([waiting, np.arange(seen, arrived) / rate])
        seen = arrived
        dropped += max(0, len(waiting) - BUFFER_CELLS)
        waiting = waiting[:BUFFER_CELLS]
        if not len(waiting):
            time.sleep(min(1e-4, 1 / rate))
            continue
        chunk, waiting = waiting[:TOGETHER], waiting[TOGETHER:]
        classifier.classify_chunk([cells[(answered + index) % len(cells)] for index in range(len(chunk))])
        waits.append(time.perf_counter() - begun - chunk)
        answered, calls = answered + len(chunk), calls + 1
    every = 1e3 * np.concatenate(waits) if waits else np.array([np.nan])
    p50, p99 = np.quantile(every, (0.5, 0.99)).tolist()
    return AtRate(rate, p50, p99, answered / max(calls, 1), dropped / total)


def format_latency(found: Sequence[BackendLatency]) -> str:
    """Return two tables as text: single cells, and rates of arrival."""
    one = [["one cell", "calls", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "CPU ms"]]
    rates = [["cells as they come", "cells/s", "together", "p50 ms", "p99 ms", "dropped"]]
    for each in found:
        times = (each.one.p50, each.one.p99, each.one.p999, each.one.most, each.one.cpu_ms)
        texts = ["-" if value is None else f"{value:.2f}" for value in times]
        one.append([each.backend, f"{each.one.num_calls:,}", *texts])
        for at in each.rates:
            values = [f"{at.together:.1f}", f"{at.p50:.1f}", f"{at.p99:.1f}", f"{at.dropped:.1%}"]
            rates.append([each.backend, f"{at.cells_per_s:,.0f}", *values])
    return f"{_aligned(one)}\n\n{_aligned(rates)}"


def latency_verdict(found: Sequence[BackendLatency], instrument_rate: float | None) -> list[str]:
    """Return sentences on single cells, on rates of arrival, and on the instrument if its rate [cells/s] is given."""
    soonest = min(found, key=lambda one: one.one.p99)
    quick = f"One cell: {soonest.backend} answers 99 of 100 within {soonest.one.p99:.2f} ms"
    return [f"{quick} ({soonest.one.num_calls:,} calls).", *_rate_verdict(found, instrument_rate)]


def _rate_verdict(found: Sequence[BackendLatency], instrument_rate: float | None) -> list[str]:
    best = max(found, key=lambda one: one.held.cells_per_s if one.held else 0.0)
    if best.held is None:
        return [f"{best.backend} drops cells at every rate that was measured: other work took the processor."]
    at = best.held
    buffer = f"with {BUFFER_CELLS:,} cells of buffer"
    drops = f"no cells were dropped at any rate that was measured, {buffer}"
    if best.drops_from is not None:
        drops = f"cells were dropped from {best.drops_from:,.0f} cells/s on, {buffer}"
    lines = [f"{best.backend} held {at.cells_per_s:,.0f} cells/s with a p99 of {at.p99:.1f} ms; {drops}."]
    if instrument_rate is not None:
        fits = [one for one in found if one.held is not None and one.held.cells_per_s >= instrument_rate]
        names = ", ".join(one.backend for one in fits)
        verdict = f"answered as they come by {names}" if fits else "too many for every backend here"
        lines.append(f"Your instrument's {instrument_rate:,.0f} cells/s: {verdict}.")
    return lines


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(text.rjust(width) if column else text.ljust(width) for column, (text, width) in enumerate(pairs))
        for pairs in ([*zip(line, widths, strict=True)] for line in table)
    )
