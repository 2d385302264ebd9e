"""The network against SVM and kNN on the same cells and the same splits: ``fastcell compare``, kept as a result.

    python benchmarks/compare.py                                     # the synthetic default set, preset demo
    python benchmarks/compare.py DATA --splits folds --preset fast --bench compare-jurkat   # a set packed with --folds

Further arguments are those of ``fastcell compare``. The row of each method is that of the largest volume.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import Result

from fastcell.cli.compare import main as compare
from fastcell.compare.result_tables import SCHEMES
from fastcell.compare.runner import method_name
from fastcell.errors import FastcellError


@dataclass
class Score:
    """One method over all pooled test cells, mean over seeds; intervals are 95 %, ``{"value", "low", "high"}``.

    Attributes:
        method: name in the table.
        accuracy, balanced_accuracy: of the pooled test cells.
        std: deviation of the accuracy over seeds; None for one.
        gain: accuracy of the first method minus this one's, paired, with its verdict in words; None for the first
            itself.
        other_splits: accuracy under the second scheme of splits minus that under the first, on the same cells, with its
            verdict; None where there is one.
        fit_s: median over splits and seeds of the time to fit, choice of parameters included [s].
        predict_us: median time to classify one preprocessed cell [us].
        num_cells: pooled test cells.
        num_seeds: n.
    """

    method: str
    accuracy: dict[str, float]
    balanced_accuracy: dict[str, float]
    std: float | None
    gain: dict[str, float | str] | None
    other_splits: dict[str, float | str] | None
    fit_s: float
    predict_us: float
    num_cells: int
    num_seeds: int


def main():
    """Run the comparison, which prints its tables, and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="compare", help="name of the result (%(default)s)")
    parser.add_argument("--out", help="folder of the comparison, kept and gone on with (a temporary one)")
    parser.add_argument("--methods", default="cnn,svm,knn")
    parser.add_argument("--volumes", default="1")
    options, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or temporary
        compare([*rest, "--methods", options.methods, "--volumes", options.volumes, "--out", out])
        study = json.loads((Path(out) / "study.json").read_text(encoding="utf-8"))
        rows = read_scores(Path(out))
        intervals = describe_intervals(Path(out))
    settings = {
        "preset": study["settings"]["preset"],
        "splits": sum(len(scheme["splits"]) for scheme in study["schemes"].values()),
        "seeds": rows[0].num_seeds,
        "intervals": intervals,
    }
    if study.get("changes"):
        settings["changes"] = " ".join(study["changes"])
    data = f"{study['data']}, {rows[0].num_cells:,} test cells"
    print(f"wrote {Result(options.bench, data, settings, rows).save()}")


def describe_intervals(out):
    """Return what the intervals of the test scores are by, e.g. ``by group (6)``."""
    row = next(row for row in read_csv(out / "accuracy.csv") if row["part"] == "test")
    return f"by {row['by']} ({int(row['num_units']):,})" + (f", {row['note']}" if row["note"] else "")


def read_scores(out):
    """The test scores of every method at the largest volume, from the tables of ``fastcell compare``."""
    entries = [row for row in read_csv(out / "accuracy.csv") if row["part"] == "test"]
    largest = max(float(row["volume"]) for row in entries)
    entries = [row for row in entries if float(row["volume"]) == largest and row["scheme"] == entries[0]["scheme"]]
    what = f"{entries[0]['scheme']}, volume {largest:g}"
    first = method_name(entries[0]["method"])
    differences = read_csv(out / "differences.csv")
    gains = {row["second"]: _difference(row) for row in differences if (row["what"], row["first"]) == (what, first)}
    across = {}
    for row in differences:
        if row["what"] == SCHEMES:  # the second scheme's stand first
            across.setdefault(row["first"].rpartition(", ")[0], _difference(row))
    return [
        Score(
            method=method_name(row["method"]),
            accuracy=_interval(row, "accuracy", ""),
            balanced_accuracy=_interval(row, "balanced_accuracy", "balanced_"),
            std=float(row["std"]) if row["std"] else None,
            gain=gains.get(method_name(row["method"])),
            other_splits=across.get(method_name(row["method"])),
            fit_s=float(row["fit_s"]),
            predict_us=float(row["predict_us"]),
            num_cells=int(row["num_cells"]),
            num_seeds=int(row["num_seeds"]),
        )
        for row in entries
    ]


def _interval(row, name, prefix):
    return {"value": float(row[name]), "low": float(row[f"{prefix}low"]), "high": float(row[f"{prefix}high"])}


def _difference(row):
    return {key: float(row[key]) for key in ("value", "low", "high")} | {"verdict": row["verdict"]}


def read_csv(path):
    """Rows by column."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    try:
        main()
    except FastcellError as error:
        sys.exit(f"compare: error: {error}")
