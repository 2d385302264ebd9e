"""Does it change what is learnt where the cells come from? The same training through the stream and through the bank.

For every seed, in turns: ``fastcell fit`` with ``stream + dali`` and with ``bank + fused``, each scored on the same
test cells, as a user runs it. The images of both are the same (tests hold them against each other); the order of the
batches is not, so runs differ as runs with different seeds do.

    python benchmarks/stores.py [--seeds 3]                              # the synthetic default set, preset demo
    python benchmarks/stores.py DATA --preset fast --folds 5 --bench stores-NAME   # every cell is a test cell once
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Result

from fastcell.dataset.manifest import Manifest
from fastcell.loading.datamodule import CellDataModule
from fastcell.system import library_settings

WAYS = {"stream + dali": ("stream", "dali"), "bank + fused": ("bank", "fused")}


@dataclass
class Way:
    """One way over all seeds.

    Attributes:
        way: store + transform.
        accuracies: of the test subset, by seed.
        accuracy_mean: over the seeds.
        accuracy_std: sample standard deviation over the seeds.
        cells_per_s: median training rate.
    """

    way: str
    accuracies: list[float]
    accuracy_mean: float
    accuracy_std: float
    cells_per_s: float


def main():
    """Train, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="packed data set (the synthetic default set)")
    parser.add_argument("--preset", default="demo", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each way (%(default)s)")
    parser.add_argument("--folds", type=int, default=0, help="splits fold-0 ...; accuracy is pooled over them")
    parser.add_argument("--bench", default="stores", help="name of the result (%(default)s)")
    options = parser.parse_args()
    library_settings.quiet()
    manifest = Manifest.open(CellDataModule(options.data).path)
    splits = [f"fold-{fold}" for fold in range(options.folds)] or ["default"]
    found = {way: [] for way in WAYS}
    for seed in range(options.seeds):
        for way, (store, transform) in WAYS.items():
            runs = [train(manifest.path, options.preset, seed, store, transform, split) for split in splits]
            right, tested, rates = (np.array(column) for column in zip(*runs, strict=True))
            accuracy, rate = right.sum() / tested.sum(), float(np.median(rates))
            found[way].append((float(accuracy), rate))
            print(f"seed {seed}, {way}: accuracy {accuracy:.3f}, {rate:,.0f} cells/s", flush=True)
    rows = [summarize(way, runs) for way, runs in found.items()]
    for row in rows:
        print(f"{row.way:<16}{row.accuracy_mean:.3f} +- {row.accuracy_std:.3f}{row.cells_per_s:>10,.0f} cells/s")
    name = ("synthetic " if manifest.info.synthetic else "") + manifest.info.name
    tests = sum(int((manifest.split(split) == "test").sum()) for split in splits)
    settings = {"preset": options.preset, "seeds": options.seeds, "folds": options.folds, "test cells": tests}
    print(f"wrote {Result(options.bench, name, settings, rows).save()}")


def train(data, preset, seed, store, transform, split):
    """One run of the command line: test cells classified rightly, test cells, and training rate [cells/s]."""
    with tempfile.TemporaryDirectory() as runs:
        command = [
            sys.executable,
            "-m",
            "fastcell",
            "fit",
            f"--data.path={data}",
            f"--preset={preset}",
            f"--runs={runs}",
        ]
        flags = [
            f"--seed_everything={seed}",
            f"--data.store={store}",
            f"--data.transform={transform}",
            f"--data.split_name={split}",
        ]
        done = subprocess.run([*command, *flags], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"fit ended with status {done.returncode}: {done.stderr[-2000:]}")
        (metrics,) = Path(runs).glob("*/metrics.json")
        values = json.loads(metrics.read_text())
    confusion = np.array(values["test"]["confusion"])
    return int(confusion.trace()), int(confusion.sum()), float(values["cells_per_s"]["train"])


def summarize(way, runs):
    """One row."""
    accuracies, rates = (np.array(column) for column in zip(*runs, strict=True))
    spread = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else 0.0
    return Way(way, accuracies.tolist(), float(accuracies.mean()), spread, float(np.median(rates)))


if __name__ == "__main__":
    main()
