"""How long does one cell take by ``fastcell.load(RUN).predict``, with each backend?

Calls of all backends take turns, as in ``fastcell bench --latency``, as many as the time allows.

    python benchmarks/one_cell.py "student, 24 px=RUN=DATA" ... [--seconds 20] [--backends "openvino int8" ...]
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from harness import Result

from fastcell.bench.latency import measure_single_cells, open_backends, sample_cells
from fastcell.dataset.manifest import Manifest
from fastcell.runs.run_folder import find_checkpoint


@dataclass
class SingleCellRow:
    """Times of calls with one cell.

    Attributes:
        network: name of the run.
        backend: program and precision.
        num_calls: number of calls.
        p50_ms, p99_ms, p999_ms, slowest_ms: percentiles and maximum; p999_ms is None with fewer than 1,000 calls.
        cpu_ms: mean processor time of a call.
    """

    network: str
    backend: str
    num_calls: int
    p50_ms: float
    p99_ms: float
    p999_ms: float | None
    slowest_ms: float
    cpu_ms: float


def measure(case, names, seconds):
    """Return a row for each backend of one run."""
    name, run, data = case.split("=")
    classifiers = open_backends(find_checkpoint(Path(run)), 1, print)
    chosen = {backend: classifiers[backend] for backend in names if backend in classifiers}
    found = measure_single_cells(chosen, sample_cells(Manifest.open(data)), seconds)
    rows = [
        SingleCellRow(name, backend, one.num_calls, one.p50, one.p99, one.p999, one.most, one.cpu_ms)
        for backend, one in found.items()
    ]
    for row in rows:
        print(row, flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", metavar="NAME=RUN=DATA")
    parser.add_argument("--backends", nargs="+", default=["torch fp32", "openvino bf16", "openvino int8"])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each run (%(default)s)")
    arguments = parser.parse_args()
    rows = [row for case in arguments.cases for row in measure(case, arguments.backends, arguments.seconds)]
    settings = {"threads": 1, "cores": os.cpu_count(), "seconds": arguments.seconds}
    print(f"wrote {Result('one-cell', 'cells of trained runs', settings, rows).save()}")


if __name__ == "__main__":
    main()
