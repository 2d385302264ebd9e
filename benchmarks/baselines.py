"""What kNN and SVM cost by cells, principal components and library, and whether the libraries say the same.

The parts of `fastcell.compare.baselines` are timed alone: the components (`CellPCA`), and with them one fit and the
classification of other cells, with one choice of parameters. (`fastcell compare` fits the SVM once for each of its 24
choices, on at most 8,000 cells, and then on all.) scikit-learn is there always, scikit-learn-intelex where it is
installed (extra ``bench``), cuML where a GPU is. Libraries take turns in one run. Times are from host memory to host
memory.

The cells are made in a process of their own: scikit-learn-intelex 2026.2 cannot be imported where DALI is.

Cells are simulated, 64 x 64; those beyond `SIMULATED` are augmented versions of the others. The cells that are
classified are not among them.

So that it ends in four minutes on one core: one round above `ONCE_ABOVE` cells, and nothing above `MOST_VALUES` cells x
components.

    python benchmarks/baselines.py [--cells 1000,3000,8000,20000] [--features 16,64,256] [--rounds 3] [--threads 1]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from harness import Contestant, Done, Result, Row, cpu_seconds, time_turns

from fastcell.compare.baselines import BACKENDS, CellPCA, find_backend, make_baseline
from fastcell.errors import ArgumentError
from fastcell.system import library_settings

SIMULATED, TEST_CELLS, SIZE = 3000, 1000, 64
CHOICES = {"knn": {"n_neighbors": 9}, "svm": {"C": 10.0, "gamma": 1.0}}
REFERENCE = "sklearn"
ONCE_ABOVE, MOST_VALUES = 5000, 2_500_000


@dataclass
class BaselineRow(Row):
    """One step of one library at one number of cells; `ratio` is its rate over scikit-learn's in the same round.

    Attributes:
        method: ``pca``, ``knn`` or ``svm``.
        step: ``fit`` or ``predict``; of ``pca`` both in one are ``fit``.
        backend: library.
        num_train: cells that are fitted.
        features: principal components.
        seconds: of the step, median [s].
        accuracy: share of the test cells that are classified right; None for ``pca``.
        agreement: share of the test cells that scikit-learn gives the same class; None for ``pca``.
    """

    method: str = ""
    step: str = ""
    backend: str = ""
    num_train: int = 0
    features: int = 0
    seconds: float = 0.0
    accuracy: float | None = None
    agreement: float | None = None


@dataclass
class GrowthRow:
    """How the time of a step grows with the cells.

    Attributes:
        method, step, backend, features: as in `BaselineRow`.
        exponent: of the cells, least squares of the logarithms.
        low, high: the smallest and the largest between two neighbouring numbers of cells.
        from_cells, to_cells: range.
    """

    method: str
    step: str
    backend: str
    features: int
    exponent: float
    low: float
    high: float
    from_cells: int
    to_cells: int


class Step:
    """A fit or a prediction as a contestant; what it made stays here.

    Args:
        call: that is timed.
        cells: it is about.
    """

    def __init__(self, call, cells):
        self.call, self.cells = call, cells
        self.made = None

    def __call__(self):
        start, before = time.perf_counter(), cpu_seconds()
        self.made = self.call()
        return Done(self.cells, time.perf_counter() - start, cpu_seconds() - before)


class Reduction(Step):
    """Components of the training cells, timed; then those of the test cells, not timed."""

    def __init__(self, width, cells, others):
        self.pca = CellPCA(width)
        self.test, self.others = others, others
        super().__init__(partial(self.pca.fit_transform, cells), len(cells))

    def __call__(self):
        done = super().__call__()
        self.others = np.ascontiguousarray(self.pca.transform(self.test))
        return done


def main():
    """Run the benchmark, print its tables and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cells", type=numbers, default=[1000, 3000, 8000, 20_000], help="training cells (%(default)s)"
    )
    parser.add_argument("--features", type=numbers, default=[16, 64, 256], help="principal components (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="cores used (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            path = pool.submit(make_cells, Path(folder), max(options.cells)).result()
        with np.load(path) as arrays:
            data = dict(arrays)
    cores = sorted(os.sched_getaffinity(0))[-options.threads :]
    os.sched_setaffinity(0, cores)
    backends, absent = find_backends()
    rows = []
    for count in sorted(options.cells):
        print(f"{count:,} cells", flush=True)
        widths = [width for width in options.features if width * count <= MOST_VALUES]
        rounds = options.rounds if count <= ONCE_ABOVE else 1
        rows += measure(data, count, widths, backends, rounds, len(cores))
    growth = growth_rows(rows)
    print_tables(rows, growth)
    settings = {"test cells": TEST_CELLS, "side": SIZE, "threads": len(cores)}
    for bench, table in (("baselines", rows), ("baselines-growth", growth)):
        if table:  # no growth from one number of cells
            result = Result(bench, "synthetic cells", settings, table, absent=absent, packages=versions())
            print(f"wrote {result.save()}")


def numbers(text):
    """Whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def find_backends():
    """Libraries that work here, scikit-learn first, and why the others do not."""
    found, absent = [], {}
    for name in [REFERENCE, *(name for name in BACKENDS if name not in ("auto", REFERENCE))]:
        try:
            found.append(find_backend(name))
        except ArgumentError as error:
            absent[name] = str(error).rstrip(".")
            print(f"without {name}: {error}")
    return found, absent


def make_cells(folder, count):
    """Write train (N, P) and test (M, P) float32 images and their labels; returns the file."""
    import torch

    from fastcell.dataset.manifest import Manifest
    from fastcell.dataset.single_cells import read_cells
    from fastcell.loading.array_loader import make_pool
    from fastcell.ops.augmentation import Augmentation
    from fastcell.ops.transform import make_clock, transform
    from fastcell.simulator.synth import synthesize

    library_settings.quiet()
    simulated = min(count, SIMULATED)
    # Alone: workers of its own would keep this process from ending until they have been idle for minutes.
    synthesize(folder / "cells", simulated + TEST_CELLS, seed=0, jobs=1)
    manifest = Manifest.open(folder / "cells")
    order = np.random.default_rng(0).permutation(len(manifest))
    pool = make_pool(list(read_cells(manifest, order)))
    labels = manifest.labels[order]

    def images(index, augmentation):
        made = transform(
            pool,
            torch.from_numpy(index),
            torch.arange(len(index)),
            make_clock(0, 0),
            image_size=SIZE,
            augmentation=augmentation,
        )
        return made.flatten(1).numpy()

    test, first = np.arange(TEST_CELLS), np.arange(TEST_CELLS, TEST_CELLS + simulated)
    more = TEST_CELLS + np.arange(count - simulated) % simulated
    path = folder / "cells.npz"
    np.savez(
        path,
        train=np.concatenate([images(first, None), images(more, Augmentation())]),
        train_labels=labels[np.concatenate([first, more])],
        test=images(test, None),
        test_labels=labels[test],
    )
    return path


def measure(data, count, features, backends, rounds, threads):
    """All methods and libraries on the first `count` cells."""
    cells, labels = data["train"][:count], data["train_labels"][:count]
    contestants = {}
    keys = {}

    def add(method, step, backend, width, work):
        name = f"{backend}: {method} {step}, {width} of {count:,}"
        device = "cuda:0" if backend == "cuml" else "cpu"
        contestants[name] = Contestant(step, work, "synthetic", SIZE, dtype="float32", device=device, threads=threads)
        keys[name] = (method, step, backend, width)
        return work

    for width in features:
        reduction = Reduction(width, cells, data["test"])
        add("pca", "fit", REFERENCE, width, reduction)
        for method, choice in CHOICES.items():
            for backend in backends:
                fit = partial(fit_one, method, choice, backend, reduction, labels)
                fitted = add(method, "fit", backend.name, width, Step(fit, count))
                predict = partial(predict_all, fitted, reduction)
                add(method, "predict", backend.name, width, Step(predict, TEST_CELLS))
    turns = time_turns(contestants, rounds, warm_up=int(count <= ONCE_ABOVE))
    return [make_row(turns, contestants, keys, name, count, data["test_labels"]) for name in contestants]


def fit_one(method, choice, backend, reduction, labels):
    """A classifier of the components of this round, as `fastcell.compare.baselines` makes it."""
    return make_baseline(method)._make(backend, choice, reduction.made).fit(reduction.made, labels)


def predict_all(fitted, reduction):
    """(m,) classes by what the step before has fitted."""
    assert fitted.made is not None
    return np.asarray(fitted.made.predict(reduction.others))


def make_row(turns, contestants, keys, name, count, labels):
    """The row of one contestant, with what its predictions are worth."""
    method, step, backend, features = keys[name]
    twins = {key: other for other, key in keys.items()}
    (row,) = turns.rows(twins[method, step, REFERENCE, features], [name])
    predicted, expected = (
        contestants[twins[method, "predict", who, features]].work.made if method != "pca" else None
        for who in (backend, REFERENCE)
    )
    return BaselineRow(
        **asdict(row),
        method=method,
        step=step,
        backend=backend,
        num_train=count,
        features=features,
        seconds=row.num_cells / row.cells_per_s,
        accuracy=None if predicted is None else float((predicted == labels).mean()),
        agreement=None if predicted is None else float((predicted == expected).mean()),
    )


def growth_rows(rows):
    """Exponents over the numbers of cells, for all that was measured at two or more."""
    series = {}
    for row in rows:
        series.setdefault((row.method, row.step, row.backend, row.features), []).append((row.num_train, row.seconds))
    found = []
    for key, points in series.items():
        if len(points) > 1:
            cells, seconds = np.log(np.array(sorted(points))).T
            slopes = np.diff(seconds) / np.diff(cells)
            slope = float(np.polyfit(cells, seconds, 1)[0])
            ends = min(points)[0], max(points)[0]
            found.append(GrowthRow(*key, slope, float(slopes.min()), float(slopes.max()), *ends))
    return found


def versions():
    """Of the libraries."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("scikit-learn", "scikit-learn-intelex", "cuml-cu13", "cuml-cu12"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def print_tables(rows, growth):
    """Print both tables."""
    print(f"\n{'step':<14}{'library':<11}{'cells':>8}{'features':>9}{'s':>10}{'x sklearn':>11}  accuracy    same")
    for row in rows:
        scores = "" if row.accuracy is None else f"{row.accuracy:>10.3f}{row.agreement:>8.3f}"
        print(
            f"{f'{row.method} {row.step}':<14}{row.backend:<11}{row.num_train:>8,}{row.features:>9}{row.seconds:>10.4f}"
            f"{row.ratio:>11.2f}{scores}"
        )
    print("\ntime grows with the cells to the power of")
    for line in growth:
        print(
            f"{f'{line.method} {line.step}':<14}{line.backend:<11}{line.features:>9}{line.exponent:>8.2f}"
            f"  ({line.low:.2f}..{line.high:.2f})"
        )


if __name__ == "__main__":
    main()
