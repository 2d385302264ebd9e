"""What augmenting before splitting invents, and what a background gives away, on a set in which both are planted.

Two sets of ``planted.py``, of the same cells: one class is rare in both, and in one of them a background is brighter.
``fastcell compare --study leakage`` divides each in three ways; the frame of the set without a background shows what is
left of the other one's.

    python benchmarks/leakage.py [--cells 20000]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from compare import describe_intervals, read_csv
from harness import Result
from planted import write_planted

from fastcell.cli.compare import main as compare
from fastcell.compare.runner import method_name
from fastcell.errors import FastcellError


@dataclass
class Protocol:
    """One method under one order of augmenting and splitting; intervals are 95 %, ``{"value", "low", "high"}``.

    Attributes:
        method, protocol: names.
        data: which of the two sets.
        accuracy: every image tested once.
        invented: accuracy under the order before less this one's, paired; None for the first order.
        rare_recall: recall of the rare class.
        chance: share of the largest class.
        num_images: tested.
    """

    method: str
    protocol: str
    data: str
    accuracy: dict[str, float]
    invented: dict[str, float] | None
    rare_recall: dict[str, float]
    chance: float
    num_images: int


def main():
    """Make both sets, run the study on each, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000, help="(%(default)s)")
    parser.add_argument("--background", type=float, default=8.0, help="grey levels of 255 (%(default)s)")
    parser.add_argument("--rare", type=int, default=150, help="cells of the rare class (%(default)s)")
    parser.add_argument("--folds", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side of the images [px] (%(default)s)")
    options = parser.parse_args()
    rows = []
    sets = [(f"background + {options.background:g}", options.background, "cnn,frame"), ("as simulated", 0.0, "frame")]
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, background, methods) in enumerate(sets):
            manifest = write_planted(Path(scratch) / f"planted-{number}", options.cells, background, options.rare, 0)
            out = Path(scratch) / f"study-{number}"
            words = f"--study leakage --methods {methods} --folds {options.folds} --seeds 1"
            words += f" --trainer.max_epochs {options.epochs} --data.image_size {options.size}"
            compare([str(manifest.path), *words.split(), "--out", str(out)])
            rows += read_protocols(out, name, manifest)
            intervals = describe_intervals(out)
    settings = {
        "cells": options.cells,
        "rare cells": options.rare,
        "background": options.background,
        "folds": options.folds,
        "seeds": 1,
        "epochs": options.epochs,
        "size": options.size,
        "intervals": intervals,
    }
    print(f"wrote {Result('leakage', 'synthetic cells with planted faults', settings, rows).save()}")


def read_protocols(out, data, manifest):
    """The rows of a study's folder, orders as its report has them, from the leakiest on."""
    entries = [row for row in read_csv(out / "accuracy.csv") if row["part"] == "test"]
    schemes = json.loads((out / "study.json").read_text(encoding="utf-8"))["schemes"]
    texts = {name: scheme["text"] for name, scheme in schemes.items()}
    differences = {row["second"]: _interval(row, "value") for row in read_csv(out / "differences.csv")}
    rare = manifest.info.classes[int(np.argmin(np.bincount(manifest.labels)))]
    recalls = {
        (row["method"], row["scheme"]): _interval(row, "value")
        for row in read_csv(out / "classes.csv")
        if (row["measure"], row["class"]) == ("recall", rare)
    }
    chance = 1 / len(manifest.info.classes)  # the images are made until all classes count alike
    return [
        Protocol(
            method=method_name(row["method"]),
            protocol=texts[row["scheme"]],
            data=data,
            accuracy=_interval(row, "accuracy"),
            invented=differences.get(f"{method_name(row['method'])}, {row['scheme']}"),
            rare_recall=recalls[row["method"], row["scheme"]],
            chance=chance,
            num_images=int(row["num_cells"]),
        )
        for row in sorted(entries, key=lambda row: (row["method"], list(texts).index(row["scheme"])))
    ]


def _interval(row, name):
    return {"value": float(row[name]), "low": float(row["low"]), "high": float(row["high"])}


if __name__ == "__main__":
    try:
        main()
    except FastcellError as error:
        sys.exit(f"leakage: error: {error}")
