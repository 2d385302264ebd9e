"""The network against SVM and kNN on the same cells and the same splits, predictions of all splits pooled.

For every split: ``fastcell fit`` as a user runs it, then the baselines on the same training cells, their parameters and
their preprocessing (the network's, or the paper's 128 x 128 divided by the mean) picked on the same validation cells.
Test cells of all splits are pooled, and the network is compared with each baseline on them by a paired bootstrap (by
group where there are groups).

    python benchmarks/compare.py                                     # the synthetic default set, preset demo
    python benchmarks/compare.py DATA --splits folds --preset fast   # a set packed with --folds
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from harness import Result

from fastcell import environment
from fastcell.baselines import METHODS, find_backend, fit_baseline
from fastcell.data.manifest import Manifest
from fastcell.data.module import CellDataModule
from fastcell.data.preprocessing import Preprocessing
from fastcell.errors import ArgumentError
from fastcell.models.checkpoint import read_checkpoint
from fastcell.report.scores import format_table, paired_difference, summarize

NETWORK = "CNN"


@dataclass
class Score:
    """One method over all pooled test cells; intervals are 95 %, ``{"value", "low", "high"}``.

    Attributes:
        method: name in the table.
        accuracy, balanced_accuracy: of the pooled test cells.
        gain: accuracy of the network minus this method's, paired; None for the network itself.
        fit_s: median over the splits of the time to fit, its choice of parameters included [s].
        fit_longest_s: longest of them [s].
        num_cells: pooled test cells.
    """

    method: str
    accuracy: dict[str, float]
    balanced_accuracy: dict[str, float]
    gain: dict[str, float] | None
    fit_s: float
    fit_longest_s: float
    num_cells: int


def main() -> None:
    """Run the comparison, print its tables and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="packed data set (the synthetic default set)")
    parser.add_argument("--splits", default="default", help="names with commas, or folds for all fold-* (%(default)s)")
    parser.add_argument("--preset", default="demo", help="of the network (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the network and the baselines (%(default)s)")
    parser.add_argument("--bench", default="compare", help="name of the result (%(default)s)")
    options, extra = parser.parse_known_args()
    environment.quiet()
    module = CellDataModule(options.data)
    manifest = Manifest.open(module.path)
    there = manifest.split_names()
    splits = (
        [name for name in there if name.startswith("fold-")] if options.splits == "folds" else options.splits.split(",")
    )
    if not splits or not set(splits) <= set(there):
        raise ArgumentError(f"--splits must be among {', '.join(there)}, got {options.splits!r}.")
    pooled = {method: np.full(len(manifest), -1) for method in (NETWORK, *METHODS)}
    seconds: dict[str, list[float]] = {method: [] for method in pooled}
    for split in splits:
        sides = manifest.split(split)
        usable = manifest.labels >= 0
        test = (sides == "test") & usable
        start = time.perf_counter()
        predicted, preprocessing = fit_network(manifest, split, options.preset, options.seed, extra)
        seconds[NETWORK].append(time.perf_counter() - start)
        pooled[NETWORK][test] = predicted[test]
        print(f"{split}: {NETWORK} {accuracy(manifest, pooled[NETWORK], test):.3f} in {seconds[NETWORK][-1]:.0f} s")
        for method in METHODS:
            start = time.perf_counter()
            best = None
            for candidate in dict.fromkeys((preprocessing, Preprocessing(window=preprocessing.window))):
                images = preprocessed(manifest.path, candidate)
                train, valid = (np.flatnonzero((sides == side) & usable) for side in ("train", "valid"))
                labels = manifest.labels
                fitted = fit_baseline(
                    method, images[train], labels[train], images[valid], labels[valid], seed=options.seed
                )
                if best is None or fitted.valid_accuracy > best[0].valid_accuracy:
                    best = fitted, images
            assert best is not None
            pooled[method][test] = best[0].estimator.predict(best[1][test].reshape(test.sum(), -1))
            seconds[method].append(time.perf_counter() - start)
            print(
                f"{split}: {method} {accuracy(manifest, pooled[method], test):.3f} with {best[0].parameters}",
                flush=True,
            )
    rows = score(manifest, pooled, seconds)
    settings = {"preset": options.preset, "splits": len(splits), "backend": find_backend().name, "seed": options.seed}
    named = "synthetic" in manifest.info.name.lower()
    kind = "synthetic " if manifest.info.synthetic and not named else ""
    data = f"{kind}{manifest.info.name}, {rows[0].num_cells:,} test cells pooled"
    print(f"wrote {Result(options.bench, data, settings, rows).save()}")


def fit_network(
    manifest: Manifest, split: str, preset: str, seed: int, extra: list[str]
) -> tuple[np.ndarray, Preprocessing]:
    """Train as a user does; returns (N,) predicted classes (-1 outside the test part) and the preprocessing."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fastcell", "fit", "--preset", preset, "--runs", folder]
        command += [
            "--data.path",
            str(manifest.path),
            "--data.split_name",
            split,
            "--seed_everything",
            str(seed),
            *extra,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (run,) = Path(folder).iterdir()
        table = pq.read_table(run / "predictions.parquet", columns=["key", "class"])
        checkpoint = read_checkpoint(run / "last.ckpt")
    row_of = {key: row for row, key in enumerate(manifest.column("key"))}
    predicted = np.full(len(manifest), -1)
    rows = [row_of[key] for key in table.column("key").to_pylist()]
    predicted[rows] = [manifest.info.classes.index(name) for name in table.column("class").to_pylist()]
    return predicted, Preprocessing.from_dict(checkpoint["hyper_parameters"]["preprocessing"])


def preprocessed(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """(N, S, S) float32, every cell in the order of cell_id, as the engine feeds networks."""
    module = CellDataModule(str(path))
    module.use_preprocessing(preprocessing, module.classes)
    module.setup("predict")
    images = np.empty((len(module.manifest), preprocessing.image_size, preprocessing.image_size), np.float32)
    for batch in module.predict_dataloader():
        counted = batch.weight > 0
        images[batch.cell_ids[counted].numpy()] = batch.images[counted, 0].numpy()
    return images


def accuracy(manifest: Manifest, predicted: np.ndarray, rows: np.ndarray) -> float:
    """Share of ``rows`` (N,) bool that are classified right."""
    return float((predicted == manifest.labels)[rows].mean())


def score(manifest: Manifest, pooled: dict[str, np.ndarray], seconds: dict[str, list[float]]) -> list[Score]:
    """Score every method over the cells that were tested, the network first; prints the tables."""
    tested = pooled[NETWORK] >= 0
    labels = manifest.labels[tested]
    groups = None if manifest.groups is None else manifest.groups[tested]
    rows = []
    for method, values in pooled.items():
        predicted = values[tested]
        summary = summarize(labels, predicted, manifest.info.classes, groups)
        print(f"\n{method}\n{format_table(summary)}")
        gain = None
        if method != NETWORK:
            value, low, high = paired_difference(labels, pooled[NETWORK][tested], predicted, groups)
            gain = {"value": value, "low": low, "high": high}
            print(f"{NETWORK} minus {method}: {value:+.3f} ({low:+.3f}..{high:+.3f})")
        times = seconds[method]
        scores = (summary["accuracy"], summary["balanced_accuracy"])
        rows.append(Score(method, *scores, gain, float(np.median(times)), max(times), int(tested.sum())))
    return rows


if __name__ == "__main__":
    try:
        main()
    except ArgumentError as error:
        sys.exit(f"compare: error: {error}")
