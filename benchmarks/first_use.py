"""How much processor time does the first ``fastcell predict`` on a machine take, and how much a later one?

Processes run in turns: with an empty cache of compiled loops, then with the cache that the first one has left, and with
this cache one that opens the run by ``fastcell.load`` and classifies one cell. Each checkout prepares the backend in a
copy of RUN before. ``--before`` adds another checkout of fastcell, to compare with.

    python benchmarks/first_use.py RUN DATA [--before CHECKOUT] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import Result

from fastcell.dataset.manifest import Manifest
from fastcell.storage.whole_files import scratch_folder

ONE_CELL = "a cell by fastcell.load, imports included"
CODE = """
import sys
import numpy as np
from fastcell import load
load(sys.argv[1], backend=sys.argv[2], precision=sys.argv[3], threads=1).predict(np.full((1, 40, 50), 99, np.uint8))
"""
HERE = Path(__file__).resolve().parents[1]


@dataclass
class QuantityRow:
    """Processor time of a command over the rounds: median, smallest and largest."""

    quantity: str
    what: str
    value: float
    low: float
    high: float
    unit: str
    num_rounds: int


def cpu_seconds_of(command, checkout, cache):
    """Return the processor time of a command, all threads [s]."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": str(cache)}
    process = subprocess.Popen(command, cwd=cache, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--before", type=Path, help="folder of another checkout")
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    words = ["--backend", options.backend, "--precision", options.precision, "--data.threads", "1"]
    checkouts = {"": HERE} | ({"before: ": options.before.resolve()} if options.before else {})
    found = {}

    def predict(checkout, run, cache, name):
        out = ["--out", str(cache / f"{name}.parquet")]
        command = [sys.executable, "-m", "fastcell", "predict", str(run), str(options.data.resolve()), *out, *words]
        return cpu_seconds_of(command, checkout, cache)

    def classify_one(checkout, run, cache):
        command = [sys.executable, "-c", CODE, str(run), options.backend, options.precision]
        return cpu_seconds_of(command, checkout, cache)

    with scratch_folder() as runs:
        for number, checkout in enumerate(checkouts.values()):
            shutil.copytree(options.run, runs / str(number))
            with scratch_folder() as scratch:
                predict(checkout, runs / str(number), scratch, "prepared")
        for turn in range(options.rounds):
            for number, (name, checkout) in enumerate(checkouts.items()):
                with scratch_folder() as scratch:
                    run = runs / str(number)
                    for when in ("first use, empty cache", "second use", ONE_CELL):
                        one = when == ONE_CELL
                        seconds = classify_one(checkout, run, scratch) if one else predict(checkout, run, scratch, when)
                        found.setdefault(name + when, []).append(seconds)
                        print(f"round {turn}: {name}{when} {seconds:.2f} s", flush=True)
    num = len(Manifest.open(options.data))
    backend = f"{options.backend} {options.precision}"
    what = f"predict of {num:,} cells, {backend}"
    rows = [
        QuantityRow(
            name,
            backend if ONE_CELL in name else what,
            statistics.median(values),
            min(values),
            max(values),
            "s of CPU time",
            len(values),
        )
        for name, values in found.items()
    ]
    settings = {"threads": 1, "cores": os.cpu_count()}
    print(f"wrote {Result('first-use', 'a trained run', settings, rows).save()}")


if __name__ == "__main__":
    main()
