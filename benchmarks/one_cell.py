"""How long does one cell take by ``fastcell.load(RUN).predict``, with each backend?

Calls of all backends take turns, 1,000 at a time, as in ``fastcell bench --latency``. A round is 3,000 calls of each
backend; the table shows median, smallest and largest round.

    python benchmarks/one_cell.py "student, 24 px=RUN=DATA" ... [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
from dataclasses import dataclass
from pathlib import Path

from harness import Result

from fastcell.bench.latency import measure_latency, open_backends, sample_cells
from fastcell.dataset.manifest import Manifest
from fastcell.runs.run_folder import find_checkpoint

SHARES = {"p50": "median", "p99": "99 of 100 cells", "p999": "999 of 1,000 cells", "most": "slowest cell"}


@dataclass
class QuantityRow:
    """A latency of one backend over the rounds: median, smallest and largest."""

    quantity: str
    what: str
    value: float
    low: float
    high: float
    unit: str
    num_rounds: int


def measure(case: str, names: list[str], rounds: int) -> list[QuantityRow]:
    """Return the rows of one run."""
    name, run, data = case.split("=")
    classifiers = open_backends(find_checkpoint(Path(run)), 1, print)
    chosen = {backend: classifiers[backend] for backend in names if backend in classifiers}
    cells = sample_cells(Manifest.open(data))
    found = [measure_latency(chosen, cells, 0.0) for _ in range(rounds)]
    rows = []
    for number, backend in enumerate(chosen):
        for share, what in SHARES.items():
            values = [getattr(each[number].one, share) for each in found]
            middle = statistics.median(values)
            rows.append(QuantityRow(f"{name}, {backend}", what, middle, min(values), max(values), "ms", rounds))
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", metavar="NAME=RUN=DATA")
    parser.add_argument("--backends", nargs="+", default=["torch fp32", "openvino bf16", "openvino int8"])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = [row for case in arguments.cases for row in measure(case, arguments.backends, arguments.rounds)]
    settings: dict[str, object] = {"threads": 1, "cores": os.cpu_count()}
    print(f"wrote {Result('one-cell', 'cells of trained runs', settings, rows).save()}")


if __name__ == "__main__":
    main()
