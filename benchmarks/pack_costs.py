"""What `pack` of a folder of JPEG files takes: CPU time and memory of a cell.

CPU time is that of packing 20,000 simulated cells with one process, listing, split and search for copies included, in a
process that has packed them once before (so compiled loops are there). `--before DIR`, a checkout of an earlier
version, takes turns with this one.

Memory is what each further cell adds to the peak of a fresh process: the slope between packing 20,000 and 80,000
different images, both in shards of 2,500 cells, because a shard is held until it is written.

    python benchmarks/pack_costs.py [--rounds 3] [--before DIR] [--data DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from harness import Result

from fastcell.dataset.single_cells import read_cells
from fastcell.simulator.synth import synthesize

NUM_TIMED, NUM_LARGE = 20_000, 80_000
PACK = """
import json, shutil, sys, time
import cv2
from fastcell.packing.pack import pack
from fastcell.system import library_settings
library_settings.quiet()
cv2.setNumThreads(1)
*folders, out = sys.argv[1:]
for folder in folders:
    began = time.process_time()
    num = len(pack(folder, out, jobs=1, shard_cells=2_500))
    spent = time.process_time() - began
    shutil.rmtree(out)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([num, spent, int(status["VmHWM"].split()[0]) * 1024]))
"""


@dataclass
class Cost:
    """One figure: median over the rounds, smallest and largest."""

    quantity: str
    what: str
    unit: str
    value: float
    low: float
    high: float
    num_rounds: int


def write_images(folder, num):
    """Write `num` different JPEG files in a folder for each class.

    The cells of `NUM_TIMED` simulated ones are shifted by as many columns, and are as many grey levels brighter, as
    they were used before: cells of one size, mean and border would be read again in the search for copies.
    """
    base = synthesize(folder / "simulated", NUM_TIMED, 0, jobs=1)
    timed, large = (folder / f"cells-{size}" for size in (NUM_TIMED, num))
    names, shifts = base.info.classes, range(-(-num // NUM_TIMED))
    for place in (timed, large):
        for name in names:
            (place / name).mkdir(parents=True)
    for row, cell in enumerate(read_cells(base, range(NUM_TIMED))):
        for shift in shifts[: 1 + (num - 1 - row) // NUM_TIMED]:
            image = cv2.add(np.ascontiguousarray(np.roll(cell, shift, axis=1)), float(shift))
            name = f"{names[base.labels[row]]}/{row + shift * NUM_TIMED:06d}.jpg"
            cv2.imwrite(str(large / name), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
            if shift == 0:
                os.link(large / name, timed / name)


def pack_in_turn(folder, cells, checkout):
    """Pack folders one after the other in a fresh process, by the package of a checkout.

    Returns:
        CPU time of a cell of the last one [us], and peak memory [bytes].
    """
    environment = {**os.environ, "PYTHONPATH": str(checkout), "FASTCELL_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-c", PACK, *(str(folder / name) for name in cells), str(folder / "packed")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pack of {cells[-1]} by {checkout} ended with {done.returncode}: {done.stderr[-2000:]}")
    num, spent, peak = json.loads(done.stdout.splitlines()[-1])
    return spent / num * 1e6, peak


def measure(folder, rounds, before):
    """Measure in turns."""
    here = Path(__file__).resolve().parents[1]
    versions = {"": here} if before is None else {"": here, ", before": before}
    times, slopes = ({name: [] for name in versions} for _ in range(2))
    few, many = f"cells-{NUM_TIMED}", f"cells-{NUM_LARGE}"
    for turn in range(rounds):
        for name, checkout in versions.items():
            spent, small = pack_in_turn(folder, [few, few], checkout)
            _, large = pack_in_turn(folder, [few, many], checkout)
            times[name].append(spent)
            slopes[name].append((large - small) / (NUM_LARGE - NUM_TIMED))
            print(f"  round {turn + 1}{name}: {spent:.1f} us, {slopes[name][-1]:.0f} bytes a cell", flush=True)
    rows = []
    for name in versions:
        rows.append(_cost(f"CPU time{name}", f"a cell of {NUM_TIMED:,} JPEG files, one process", "us", times[name]))
        what = f"each further cell from {NUM_TIMED:,} to {NUM_LARGE:,}, peak of the process"
        rows.append(_cost(f"memory{name}", what, "bytes", slopes[name]))
    return rows


def _cost(quantity, what, unit, values):
    return Cost(quantity, what, unit, float(np.median(values)), min(values), max(values), len(values))


def main():
    """Make the images, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--before", type=Path, help="checkout of an earlier version, which takes turns with this one")
    parser.add_argument("--data", type=Path, help="where to make and keep the images (a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or Path(scratch)
        if not (folder / "whole").exists():
            write_images(folder, NUM_LARGE)
            (folder / "whole").touch()
        rows = measure(folder, options.rounds, options.before)
    for row in rows:
        print(f"{row.quantity}: {row.value:.1f} ({row.low:.1f} to {row.high:.1f}) {row.unit}, {row.what}")
    settings = {"rounds": options.rounds, "layout": "cell", "shard cells": 2_500, "split": "65/15/20"}
    print(f"wrote {Result('pack-costs', 'simulated cells, 49 to 284 px', settings, rows).save()}")


if __name__ == "__main__":
    main()
