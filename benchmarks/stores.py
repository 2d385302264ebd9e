"""Does it change what is learnt where the cells come from? The same training through the stream and through the bank.

For every seed, in turns: ``fastcell fit`` with ``stream + dali`` and with ``bank + fused``, each scored on the same
test cells, as a user runs it. The images of both are the same (tests hold them against each other); the order of the
batches is not, so runs differ as runs with different seeds do.

    python benchmarks/stores.py [--seeds 3]                              # the synthetic default set, preset demo
    python benchmarks/stores.py DATA --preset fast --folds 5 --bench stores-NAME   # every cell is a test cell once
    python benchmarks/stores.py --part rolling                           # the rolling window beside the stream, loading
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

import numpy as np
from harness import Contestant, Result, print_rows, time_turns
from loader import DATA, Data

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.loader import CellLoader
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import training_share
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.rolling_bank import RollingReader, mixing
from fastcell.loading.stores.stream import CellReader
from fastcell.ops.augmentation import Augmentation
from fastcell.system import library_settings

WAYS = {"stream + dali": ("stream", "dali"), "bank + fused": ("bank", "fused")}


@dataclass
class Way:
    """One way over all seeds.

    Attributes:
        way: store + transform.
        accuracies: of the test part, by seed.
        accuracy_mean: over the seeds.
        accuracy_std: sample standard deviation over the seeds.
        cells_per_s: median training rate.
    """

    way: str
    accuracies: list[float]
    accuracy_mean: float
    accuracy_std: float
    cells_per_s: float


def main() -> None:
    """Train, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="packed data set (the synthetic default set)")
    parser.add_argument("--preset", default="demo", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each way (%(default)s)")
    parser.add_argument("--folds", type=int, default=0, help="splits fold-0 ...; accuracy is pooled over them")
    parser.add_argument("--bench", default="stores", help="name of the result (%(default)s)")
    parser.add_argument("--part", choices=("training", "rolling"), default="training", help="(%(default)s)")
    parser.add_argument("--cells", type=int, default=20_000, help="of the part rolling (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of the part rolling (%(default)s)")
    options = parser.parse_args()
    library_settings.quiet()
    if options.part == "rolling":
        library_settings.raise_malloc_thresholds()  # as the commands do
        with tempfile.TemporaryDirectory() as scratch:
            compare_rolling(Data(Path(scratch), options.cells), options.rounds)
        return
    manifest = Manifest.open(CellDataModule(options.data).path)
    splits = [f"fold-{fold}" for fold in range(options.folds)] or ["default"]
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
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


def compare_rolling(data: Data, rounds: int) -> None:
    """Time whole epochs of training batches by the stream and by a rolling window of a quarter of the pixels.

    One core, batches of 256 float32 images of 128 x 128, from the page cache; JPEG cells and raw blocks, with and
    without augmentation. Each pair is compared within a round.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    contestants, mixed = {}, {}
    for form in ("jpeg", "block"):
        view = select(data.manifest(form), ViewConfig())
        share = training_share(len(view), 256)
        pixels = int((view.manifest.column("height").astype(np.int64) * view.manifest.column("width")).sum())
        rolling = RollingReader(view, share, window_bytes=pixels // 4)
        stream = CellReader(view, share, shuffle=True)
        places = np.argsort(stream.rows_in_order(0))
        mixed[form] = {
            "rolling window": rolling.mixing(),
            "stream": mixing(places[np.concatenate([cells.cell_ids for cells in stream.epoch(0)])[: len(share)]], 256),
        }
        for augmentation in (None, Augmentation()):
            for store, reader in (("stream", stream), ("rolling window", rolling)):
                loader = CellLoader(
                    view,
                    share,
                    Preprocessing(128),
                    LoaderSettings(),
                    shuffle=True,
                    augmentation=augmentation,
                    reader=reader,
                )

                def work(loader: CellLoader = loader, num_cells: int = len(view)) -> int:
                    loader.set_epoch(loader._epoch + 1)
                    for _ in loader:
                        pass
                    return num_cells

                name = f"{store}, {form}{', augmented' if augmentation else ''}"
                what = "a quarter of the pixels in memory" if store != "stream" else "8,192 cells mixed at a time"
                contestants[name] = Contestant(what, work, DATA[form], 128, 256, "float32", threads=1)
    turns = time_turns(contestants, rounds)
    rows = []
    for name in turns.names:
        reference = name.replace("rolling window", "stream")
        rows += turns.rows(reference, [name])
    print_rows(rows, "stream")
    for form, figures in mixed.items():
        print(f"{form}: mixing {', '.join(f'{store} {figure:.2f}' for store, figure in figures.items())}")
    settings = {"cells": data.num_cells, "mixing": mixed, "pool": "1/4 of the pixels"}
    print(f"wrote {Result('stores-rolling', 'synthetic cells', settings, rows).save()}")


def train(data: Path, preset: str, seed: int, store: str, transform: str, split: str) -> tuple[float, int, float]:
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


def summarize(way: str, runs: list[tuple[float, float]]) -> Way:
    """One row."""
    accuracies, rates = (np.array(column) for column in zip(*runs, strict=True))
    spread = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else 0.0
    return Way(way, accuracies.tolist(), float(accuracies.mean()), spread, float(np.median(rates)))


if __name__ == "__main__":
    main()
