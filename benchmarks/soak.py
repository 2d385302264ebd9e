"""Does anything grow? Training without end, with bad cells in it, watched from outside: memory, open files, speed.

`fastcell fit` over the stream and validation in every epoch, for a time, in a process of its own; each second its
resident size, its open files, its threads and its CPU time are read from /proc, and its epochs from its output. Cells
per second of CPU time tell whether it slows down, whatever else runs on the machine.

    python benchmarks/soak.py [--minutes 30] [--store stream]
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from harness import Result

from fastcell.cli.synth import main as synth
from fastcell.dataset.manifest import Manifest

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_RATE = re.compile(r"epoch (\d+)/.* ([\d,]+) cells/s")


@dataclass
class Minute:
    """Medians over one minute.

    Attributes:
        minute: from 1.
        resident_mb: resident size of the process [MB].
        open_files: descriptors.
        threads: of the process.
        epochs: ended in this minute.
        cells_per_s: training cells of those epochs over the minute, validation time included.
        cells_per_cpu_s: the same over the CPU time of all threads.
    """

    minute: int
    resident_mb: float
    open_files: float
    threads: float
    epochs: int
    cells_per_s: float
    cells_per_cpu_s: float


def main():
    """Run it, print a line a minute, write the result and its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30, help="(%(default)s)")
    parser.add_argument("--store", default="stream", help="(%(default)s)")
    parser.add_argument("--cells", type=int, default=4_000, help="synthetic cells (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "cells"
        synth([str(data), "--cells", str(options.cells), "--seed", "0", "--shard-cells", "100"])
        manifest = Manifest.open(data)
        num_training = int((manifest.split() == "train").sum())
        damage(manifest, options.cells // 100)
        minutes = watch(data, Path(folder), options.store, options.minutes, num_training)
    settings = {"minutes": options.minutes, "store": options.store, "cells": options.cells, "bad cells": "1 %"}
    path = Result("soak", "synthetic cells", settings, minutes).save()
    draw(minutes, path.with_suffix(".png"))
    print(f"wrote {path} and its picture")


def damage(manifest, count):
    """Flip a byte of every so many cells."""
    for cell in manifest.table.to_pylist()[:: len(manifest) // count]:
        with open(manifest.path / cell["shard"], "r+b") as file:
            file.seek(cell["offset"] + cell["bytes"] // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 255]))


def watch(data, folder, store, num_minutes, num_training):
    """Start the training, read /proc once a second, stop it; what the minutes were like."""
    command = [sys.executable, "-m", "fastcell", "fit", f"--data.path={data}", f"--runs={folder / 'runs'}"]
    command += [f"--data.store={store}", "--data.image_size=32", "--trainer.max_epochs=1000000"]
    command += ["--model.schedule=constant", "--model.warmup=0", "--trainer.enable_progress_bar=true"]
    minutes = []
    with open(folder / "log", "w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not re.search(r"^epoch", (folder / "log").read_text(), re.MULTILINE):
                if process.poll() is not None:
                    raise SystemExit((folder / "log").read_text())
                time.sleep(0.5)
            before, begun, cpu_before = last_epoch(folder / "log"), time.monotonic(), cpu_s(process.pid)
            for minute in range(1, num_minutes + 1):
                seen = []
                while time.monotonic() < begun + 60 * minute:
                    seen.append(state_of(process.pid))
                    time.sleep(1)
                epoch, now, cpu = last_epoch(folder / "log"), np.median(seen, axis=0), cpu_s(process.pid)
                cells = (epoch - before) * num_training
                minutes.append(Minute(minute, *map(float, now), epoch - before, cells / 60, cells / (cpu - cpu_before)))
                before, cpu_before = epoch, cpu
                print(minutes[-1], flush=True)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return minutes


def last_epoch(log):
    """Number of the last epoch that the training has told."""
    found = _RATE.findall(log.read_text())
    return int(found[-1][0]) if found else 0


def state_of(pid):
    """Resident size [MB], open files, threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    resident = int(status["VmRSS"].split()[0]) / 1000
    return resident, len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])


def cpu_s(pid):
    """CPU time of all threads so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def draw(minutes, path):
    """Four curves over the minutes, each from zero."""
    x = [item.minute for item in minutes]
    parts = (
        ("resident size [MB]", "resident_mb"),
        ("open files", "open_files"),
        ("training\n[cells/s]", "cells_per_s"),
        ("training\n[cells per CPU second]", "cells_per_cpu_s"),
    )
    figure, axes = plt.subplots(4, 1, figsize=(6.5, 7.5), sharex=True, layout="constrained")
    for axis, (title, name) in zip(axes, parts, strict=True):
        values = [getattr(item, name) for item in minutes]
        axis.plot(x, values, color="#0072B2", marker="o", markersize=3)
        axis.set_ylabel(title)
        axis.set_ylim(0, 1.15 * max(values))
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("time [min]")
    figure.suptitle(f"{len(minutes)} minutes of training with 1 % bad cells")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
