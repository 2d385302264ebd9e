"""Measure the throughput of a data set on this machine, find the limiting step, and compare it with an instrument.

The parts of a run are timed separately and together: stored bytes, decoded cells, batches, the network, and complete
classification and training. The parts run in alternation, each for a slice of time. They use the same code as `fit` and
`predict`, on a sample of the data set.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastcell.bench.timed_parts import Parts

ROUNDS = 3
SECONDS = 120.0
QUICK_SECONDS = 30.0
CELLS = 20_000
_LEAST_SLICE_S = 0.02


class Slice(NamedTuple):
    """Measurement of one part in one round. If it consists of a single step, all values are of that step.

    Attributes:
        cells: Number of cells after the first step.
        seconds: Wall time after the first step [s].
        cpu_s: CPU time of all threads after the first step [s].
        first_s: Wall time to the end of the first step [s].
    """

    cells: int
    seconds: float
    cpu_s: float
    first_s: float


@dataclass(frozen=True)
class Row:
    """Result of one timed part.

    Attributes:
        part: Name, see `fastcell.bench.timed_parts`.
        what: Description of the work.
        cells_per_s: Median throughput over the rounds [cells/s].
        low, high: Throughput of the slowest and of the fastest round [cells/s].
        cpu_us_per_cell: Median CPU time per cell, all threads together [us].
        first_step_s: Median time to the end of the first step [s].
        num_rounds: Number of rounds.
    """

    part: str
    what: str
    cells_per_s: float
    low: float
    high: float
    cpu_us_per_cell: float
    first_step_s: float
    num_rounds: int


def time_parts(parts: Parts, seconds: float) -> list[Row]:
    """Time all parts in alternation, in `ROUNDS` slices each.

    Args:
        parts: Parts to time.
        seconds: Total time for all slices, without the start and the end of each slice [s].

    Returns:
        One row per part, in the order of `parts.steps`.
    """
    slice_s = max(seconds / (ROUNDS * len(parts.steps)), _LEAST_SLICE_S)
    found: dict[str, list[Slice]] = {name: [] for name in parts.steps}
    for turn in range(ROUNDS):
        for name, part in parts.steps.items():
            _show(f"round {turn + 1} of {ROUNDS}: {name}")
            found[name].append(time_slice(part.make, slice_s, parts.synchronize))
    _show("")
    return [_row(name, parts.steps[name].what, slices) for name, slices in found.items()]


def time_slice(make: Callable[[], Iterator[int]], seconds: float, synchronize: Callable[[], None]) -> Slice:
    """Take steps until a time limit is reached, and return their number of cells and their time.

    The first step includes all start-up work, so it is timed separately. It counts only if it is the only step.

    Args:
        make: Function that returns an iterator; each of its values is the number of cells of one step.
        seconds: Time limit after the first step [s].
        synchronize: Function that waits until the device has finished.
    """
    begun, cpu_begun = time.perf_counter(), _cpu_s()
    steps = iter(make())
    first = next(steps)
    synchronize()
    start, cpu_start = time.perf_counter(), _cpu_s()
    cells = 0
    for count in steps:
        cells += count
        if time.perf_counter() - start >= seconds:
            break
    synchronize()
    end, cpu_end = time.perf_counter(), _cpu_s()
    if not cells:
        return Slice(first, start - begun, cpu_start - cpu_begun, start - begun)
    return Slice(cells, end - start, cpu_end - cpu_start, start - begun)


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _row(name: str, what: str, slices: Sequence[Slice]) -> Row:
    rates = np.array([part.cells / part.seconds for part in slices])
    cpu = np.array([part.cpu_s / part.cells * 1e6 for part in slices])
    first = float(np.median([part.first_s for part in slices]))
    return Row(name, what, float(np.median(rates)), rates.min(), rates.max(), float(np.median(cpu)), first, len(slices))


def format_rows(rows: Sequence[Row], instrument_rate: float | None = None) -> str:
    """Return the rows as a text table, with the ratio of each rate to the instrument's rate if that is given."""
    table = [["", "cells/s", "range", "CPU us/cell", "first step"]]
    table[0] += [] if instrument_rate is None else ["x instrument"]
    for row in rows:
        line = [row.part, f"{row.cells_per_s:,.0f}", f"{row.low:,.0f}..{row.high:,.0f}", f"{row.cpu_us_per_cell:,.1f}"]
        line.append(f"{row.first_step_s:.2f} s")
        table.append(line + ([] if instrument_rate is None else [f"{row.cells_per_s / instrument_rate:.2f}"]))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(text.rjust(width) if column else text.ljust(width) for column, (text, width) in enumerate(pairs))
        for pairs in ([*zip(line, widths, strict=True)] for line in table)
    )


def conclude(rows: Sequence[Row], where: str, instrument_rate: float | None = None) -> list[str]:
    """Return one sentence each for classification and training that names the limiting step.

    A third sentence states which share of the instrument's cells this machine classifies in real time, if
    `instrument_rate` is given.

    Args:
        rows: Rows from `time_parts`.
        where: Short description of the machine, for example ``2 cores``.
        instrument_rate: Rate of the instrument [cells/s], or None.
    """
    rate = {row.part: row.cells_per_s for row in rows}
    lines = [
        f"Classifying: {_binds(rate, 'classify', rate['classify, whole way'], where)}",
        f"Training: {_binds(rate, 'train', rate['train, from the bank'], where)}",
    ]
    if instrument_rate is not None:
        got = rate["classify, whole way"] / instrument_rate
        verdict = (
            f"this machine classifies them as they come, with {got:.1f} times the speed"
            if got >= 1
            else f"this machine classifies {got:.0%} of them as they come; {1 / got:.1f} such machines would do it"
        )
        lines.append(f"Your instrument's {instrument_rate:,.0f} cells/s: {verdict}.")
    return lines


_PARTS_OF = {
    "classify, whole way": ("classify, network alone", "batches, stream"),
    "train, from the bank": ("train, network alone", "batches, bank"),
    "decoded": ("read",),
}
_BUSY = 0.5  # load per core before the measurement above which other work slows the measurement


def doubts(rows: Sequence[Row], load: float, num_cores: int) -> list[str]:
    """Return sentences on the machine's load, and on rates that contradict each other.

    Args:
        rows: Rows from `time_parts`.
        load: Load average of the last minute before the measurement: runnable tasks.
        num_cores: Number of cores.
    """
    lines = [describe_load(load, num_cores)]
    by_part = {row.part: row for row in rows}
    for name, parts in _PARTS_OF.items():
        for part in parts:
            if name in by_part and part in by_part and by_part[name].cells_per_s > by_part[part].cells_per_s:
                whole, alone = by_part[name], by_part[part]
                lines.append(
                    f"{name!r} ({whole.low:,.0f} to {whole.high:,.0f} cells/s) came out faster than {part!r} alone "
                    f"({alone.low:,.0f} to {alone.high:,.0f}), which it contains: that difference is noise."
                )
    return lines


def describe_load(load: float, num_cores: int) -> str:
    """Return a sentence on the machine's load before the measurement; arguments as for `doubts`."""
    told = f"Load before: {load:.1f} runnable tasks on {num_cores} core{'s' * (num_cores > 1)}"
    if load > _BUSY * num_cores:
        return f"{told}: other work ran, and the rates are too low. Measure again on an idle machine."
    return f"{told}, idle."


def _binds(rate: dict[str, float], task: str, whole: float, where: str) -> str:
    network, loader = rate[f"{task}, network alone"], "stream" if task == "classify" else "bank"
    batches = rate[f"batches, {loader}"]
    if network <= batches:
        step = "the network" if task == "classify" else "the training step"
        return (
            f"{step} is the limit: {whole:,.0f} cells/s on {where}, {network:,.0f} with batches already there; "
            f"the {loader} could give {batches:,.0f}."
        )
    if loader == "bank":
        return (
            f"making batches is the limit: {whole:,.0f} cells/s on {where}, {batches:,.0f} from the bank alone; "
            f"the network could take {network:,.0f}."
        )
    share = {
        "reading": 1 / rate["read"],
        "decoding": 1 / rate["decoded"] - 1 / rate["read"],
        "resizing": 1 / batches - 1 / rate["decoded"],
    }
    slowest = max(share, key=lambda name: share[name])
    text = f"{slowest} is the limit: {whole:,.0f} cells/s on {where}; the network could take {network:,.0f}"
    blocks = rate.get("batches, stream of blocks")
    if blocks is not None and slowest != "resizing":
        text += f", and `pack --layout block` would give batches at {blocks:,.0f}"
    return f"{text}."


def _show(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{line:<60}", end="" if line else "\r", file=sys.stderr, flush=True)
