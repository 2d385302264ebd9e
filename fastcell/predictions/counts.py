"""How many cells of each class a recording holds, corrected for what the classifier confuses.

A classifier that calls cells of class i class j with probability P_ij turns a mixture with shares s into called shares
s P. Counting what was called is biased wherever the mixture differs from one in which the errors cancel. The shares
that make the called counts likeliest, none below 0 and 1 in sum, undo that: where the inverse s = f P^-1 of the called
shares f has no negative share it is that inverse, as in Gart and Buck, American Journal of Epidemiology 83:593 (1966),
for two classes, and Solow, Davis and Hu, Marine Ecology Progress Series 216:309 (2001), for plankton; elsewhere it is
found by expectation maximisation. It needs called classes and a confusion matrix alone: estimates from the
probabilities (Saerens, Latinne and Decaestecker, Neural Computation 14:21, 2002) need calibrated ones.

What is taken for granted is that cells of a class look in these recordings as they did in the test part: P is the same.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastcell.errors import DataError
from fastcell.predictions.table import Predictions, read_predictions
from fastcell.stats.confusion import called_per_group, confusion_per_group
from fastcell.stats.confusion_correction import NUM_DRAWS, Confusion, correct_counts

_MOST_CONFUSION_BYTES = 1 << 24
_MOST_LINES = 60


@dataclass(frozen=True)
class Counts:
    """Cells of each class in each recording; (G, K) each but `groups`.

    Attributes:
        groups: G names.
        called: int64, as the classifier has it.
        corrected: float64, rows sum to the same as those of `called`.
        low, high: float64, 95 % interval of `corrected`.
    """

    groups: list[str]
    called: np.ndarray
    corrected: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def table(self, classes: list[str]) -> pa.Table:
        """One row for each group and class."""
        num_groups, num_classes = self.called.shape
        columns: dict[str, Any] = {
            "group": np.repeat(np.array(self.groups, object), num_classes),
            "class": np.tile(np.array(classes, object), num_groups),
            "called": self.called.ravel(),
        }
        columns |= {name: getattr(self, name).ravel() for name in ("corrected", "low", "high")}
        return pa.table({name: pa.array(values) for name, values in columns.items()})


def count(
    predictions: Predictions, confusion: Confusion, level: float = 0.95, num_draws: int = NUM_DRAWS, seed: int = 0
) -> Counts:
    """Count the cells of each class, for each group of the predictions.

    The interval is of the number that a recording of as many cells is expected to hold. Three things vary
    in it: which cells came into the recording, how they were confused, and which test cells were.

    Args:
        predictions: cells without a prediction are not counted.
        confusion: of the same classes.
        level: of the interval.
        num_draws: that the interval is from.
        seed: of the draws.
    """
    called, size = predictions.called(), len(predictions.classes)
    names, table = called_per_group(called[called >= 0], predictions.groups()[called >= 0], size)
    rng = np.random.default_rng(seed)
    drawn = confusion.draw(num_draws, rng)
    corrected, bounds = [], []
    for row in table:
        estimate, low, high = correct_counts(row, confusion.rates, drawn, rng, level)
        corrected.append(estimate)
        bounds.append((low, high))
    shape = (len(names), size)
    limits = np.array(bounds).reshape(len(names), 2, size)
    return Counts(names.tolist(), table, np.array(corrected).reshape(shape), limits[:, 0], limits[:, 1])


def read_confusion(path: Path, classes: list[str]) -> Confusion:
    """The errors of a classifier on test cells.

    Args:
        path: a run folder; or predictions of labelled cells (``test --out``), which have the groups; or confusion.csv.
        classes: of the predictions to be corrected.

    Raises:
        DataError: it cannot be read, has other classes, or a class without a test cell.
    """
    if path.is_dir():
        inside = [path / "predictions.parquet", path / "confusion.csv"]
        there = [file for file in inside if file.is_file()]
        if not there:
            raise DataError(f"{path} must be a run folder with predictions.parquet. Give one that fit has completed.")
        path = there[0]
    if path.suffix not in (".csv", ".parquet") or not path.is_file():
        raise DataError(f"--confusion must be a run folder, or a .csv or .parquet file, got {path}. Check the path.")
    is_matrix = path.suffix == ".csv" and _first_cell(path) == "true"
    confusion = _read_matrix(path) if is_matrix else _confusion_of(read_predictions(path))
    if sorted(confusion.classes) != sorted(classes):
        raise DataError(
            f"{path} must be of the classes {', '.join(classes)}, got {', '.join(confusion.classes)}. "
            "Take the run that made the predictions."
        )
    order = [confusion.classes.index(name) for name in classes]
    tables = confusion.tables[:, order][:, :, order]
    empty = [name for name, cells in zip(classes, tables.sum(axis=(0, 2)).tolist(), strict=True) if not cells]
    if empty:
        raise DataError(
            f"{path}: every class must have test cells, got none of {', '.join(empty)}. "
            "Evaluate the checkpoint on cells of all classes with fastcell test --out."
        )
    return Confusion(classes, tables)


def _confusion_of(tested: Predictions) -> Confusion:
    if "true_class" not in tested.table.column_names:
        raise DataError(
            f"{tested.path} must have a column true_class. Write it with fastcell test --out, or give the run folder."
        )
    truth, called = tested.called("true_class"), tested.called()
    known = (truth >= 0) & (called >= 0)
    size = len(tested.classes)
    tables = confusion_per_group(truth[known], called[known], tested.groups()[known], size)
    return Confusion(tested.classes, tables if len(tables) else np.zeros((1, size, size), np.int64))


def _first_cell(path: Path) -> str:
    with open(path, "rb") as file:
        return file.readline(1 << 16).split(b",")[0].strip().decode("utf-8", "replace")


def _read_matrix(path: Path) -> Confusion:
    if path.stat().st_size > _MOST_CONFUSION_BYTES:
        raise DataError(f"{path} must have at most {_MOST_CONFUSION_BYTES:,} bytes. Give the run's confusion.csv.")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
        classes = header[1:]
        counts = np.array([[int(value) for value in row[1:]] for row in rows], np.int64)
        if [row[0] for row in rows] != classes or counts.shape != (len(classes), len(classes)) or counts.min() < 0:
            raise ValueError("rows and columns must be the same classes")
        if counts.max() > 1 << 40 or len(set(classes)) < len(classes):
            raise ValueError("a class twice, or more cells than can be")
    except (ValueError, OverflowError, IndexError, csv.Error) as error:
        raise DataError(f"{path} is no confusion matrix ({error}). Give the run's confusion.csv.") from None
    return Confusion(classes, counts[None])


def describe_counts(counts: Counts, confusion: Confusion, num_unclassified: int) -> str:
    """The lines to print: one for each group and class, and what to be careful with."""
    table = counts.table(confusion.classes).to_pylist()
    header = ["group", "class", "called", "corrected", "95 %"]
    rows = [
        [
            row["group"] or "-",
            row["class"],
            f"{row['called']:,}",
            f"{row['corrected']:,.1f}",
            f"{row['low']:,.1f}..{row['high']:,.1f}",
        ]
        for row in table[:_MOST_LINES]
    ]
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join(text.ljust(widths[i]) if i < 2 else text.rjust(widths[i]) for i, text in enumerate(line))
        for line in [header, *rows]
    ]
    if len(table) > _MOST_LINES:
        lines.append(f"and {len(table) - _MOST_LINES:,} more: --out FILE has all")
    if num_unclassified:
        lines.append(f"{num_unclassified:,} cells without a prediction are not counted")
    by = f"{len(confusion.tables):,} groups" if confusion.by_group else f"{int(confusion.counts.sum()):,} cells"
    lines.append(f"intervals: 95 %, from the cells of the recording and the confusions of {by} of the test part")
    return "\n".join([*lines, *(f"warning: {text}" for text in confusion.warnings())])
