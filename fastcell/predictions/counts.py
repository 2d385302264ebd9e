"""Estimate how many cells of each class a recording holds, corrected for the errors of the classifier.

Let P_ij be the probability that the classifier predicts class j for a cell of class i. In a mixture with class shares
s, the predicted classes then have the shares s P. Counts of predicted classes are therefore biased, except for mixtures
in which the errors cancel. This module corrects the bias: it finds the shares that maximise the likelihood of the
predicted counts, under the condition that no share is below 0 and the shares sum to 1. If the inverse s = f P^-1 of the
predicted shares f has no negative share, it is the solution, as in Gart and Buck, American Journal of Epidemiology
83:593 (1966), for two classes, and Solow, Davis and Hu, Marine Ecology Progress Series 216:309 (2001), for plankton.
Otherwise the solution is found by expectation maximisation. The method needs only predicted classes and a confusion
matrix. Estimates from the probabilities (Saerens, Latinne and Decaestecker, Neural Computation 14:21, 2002) would need
calibrated probabilities.

The method assumes that the counted recordings differ from the test recordings as much as the test recordings differ
from each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastcell.dataset.tables.dialect import read_dialect, read_rows
from fastcell.errors import DataError
from fastcell.predictions.table import Predictions, read_predictions
from fastcell.stats.confusion import called_per_group, confusion_per_group
from fastcell.stats.confusion_correction import LEAST_RECORDINGS, Confusion, correct_counts
from fastcell.system.text import join_lines, list_names, printable

_MOST_CONFUSION_BYTES = 1 << 24
_MOST_LINES = 60


@dataclass(frozen=True)
class Counts:
    """Number of cells of each class in each recording. All arrays are (G, K): G groups, K classes.

    Attributes:
        groups: G names.
        called: int64, cells that the classifier assigns to each class.
        corrected: float64, corrected counts; each row has the same sum as the row of `called`.
        low, high: float64, limits of the interval of `corrected`, 95 % by default.
    """

    groups: list[str]
    called: np.ndarray
    corrected: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def table(self, classes: list[str]) -> pa.Table:
        """Return a table with one row per group and class."""
        num_groups, num_classes = self.called.shape
        columns: dict[str, Any] = {
            "group": np.repeat(np.array(self.groups, object), num_classes),
            "class": np.tile(np.array(classes, object), num_groups),
            "called": self.called.ravel(),
        }
        columns |= {name: getattr(self, name).ravel() for name in ("corrected", "low", "high")}
        return pa.table({name: pa.array(values) for name, values in columns.items()})


def count(predictions: Predictions, confusion: Confusion, level: float = 0.95) -> Counts:
    """Count the cells of each class in each group of the predictions.

    The interval is for the expected number of cells in a new recording of the same size. It includes the sampling of
    cells into the recording and into the test subset, and the variation of confusions between the test recordings (see
    `fastcell.stats.confusion_correction`).

    Args:
        predictions: predictions to count. Cells without a prediction, unsure cells and cells unlike those of training
            are left out, because their confusions are not known from the test subset.
        confusion: errors of the classifier, for the same classes.
        level: level of the interval, between 0 and 1.

    Returns:
        Predicted and corrected counts with their intervals.
    """
    called, size = predictions.called(), len(predictions.classes)
    counted = (called >= 0) & ~predictions.unlike_training
    names, table = called_per_group(called[counted], predictions.groups()[counted], size)
    corrected, bounds = [], []
    for row in table:
        estimate, low, high = correct_counts(row, confusion, level)
        corrected.append(estimate)
        bounds.append((low, high))
    shape = (len(names), size)
    limits = np.array(bounds).reshape(len(names), 2, size)
    return Counts(names.tolist(), table, np.array(corrected).reshape(shape), limits[:, 0], limits[:, 1])


def read_confusion(path: Path, classes: list[str]) -> Confusion:
    """Read the errors of a classifier on test cells.

    Args:
        path: a run folder; or predictions of labelled cells (``test --out``), which include the groups; or
            confusion.csv.
        classes: classes of the predictions to be corrected.

    Returns:
        The confusion matrices, with the classes in the order of `classes`.

    Raises:
        DataError: If the file cannot be read, has other classes, or has no test cell of some class.
    """
    if path.is_dir():
        inside = [path / "predictions.parquet", path / "confusion.csv"]
        there = [file for file in inside if file.is_file()]
        if not there:
            raise DataError(f"{path} must be a run folder with predictions.parquet. Give one that fit has completed.")
        path = there[0]
    if path.suffix not in (".csv", ".parquet") or not path.is_file():
        raise DataError(f"--confusion must be a run folder, or a .csv or .parquet file, got {path}. Check the path.")
    is_matrix = path.suffix == ".csv" and read_dialect(path).names[:1] == ["true"]
    confusion = _read_matrix(path) if is_matrix else _confusion_of(read_predictions(path))
    if sorted(confusion.classes) != sorted(classes):
        raise DataError(
            f"{path} must be of the classes {list_names(classes)}, got {list_names(confusion.classes)}. "
            "Take the run that made the predictions."
        )
    order = [confusion.classes.index(name) for name in classes]
    tables = confusion.tables[:, order][:, :, order]
    empty = [name for name, cells in zip(classes, tables.sum(axis=(0, 2)).tolist(), strict=True) if not cells]
    if empty:
        raise DataError(
            f"{path}: every class must have test cells, got none of {list_names(empty)}. "
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


def _read_matrix(path: Path) -> Confusion:
    if path.stat().st_size > _MOST_CONFUSION_BYTES:
        raise DataError(f"{path} must have at most {_MOST_CONFUSION_BYTES:,} bytes. Give the run's confusion.csv.")
    try:
        header, *rows = [row for row in read_rows(path) if row]
        classes = header[1:]
        counts = np.array([[int(value) for value in row[1:]] for row in rows], np.int64)
        if [row[0] for row in rows] != classes or counts.shape != (len(classes), len(classes)) or counts.min() < 0:
            raise ValueError("rows and columns must be the same classes")
        if counts.max() > 1 << 40 or len(set(classes)) < len(classes):
            raise ValueError("a class occurs twice, or a count is impossibly large")
    except (ValueError, OverflowError, IndexError) as error:
        raise DataError(f"{path} is no confusion matrix ({error}). Give the run's confusion.csv.") from None
    return Confusion(classes, counts[None])


def describe_left_out(predictions: Predictions) -> list[str]:
    """Return a line for each kind of cells that `count` leaves out, if there are any."""
    called, unsure, unlike = predictions.called(), predictions.unsure, predictions.unlike_training
    kinds = {
        "without a prediction": (called < 0) & ~unsure & ~unlike,
        "of which the classifier is unsure": unsure & ~unlike,
        "unlike those of training": unlike,
    }
    numbers = {what: int(mask.sum()) for what, mask in kinds.items()}
    lines = [
        f"{num:,} {f'cell {what} is' if num == 1 else f'cells {what} are'} not counted"
        for what, num in numbers.items()
        if num
    ]
    if (unsure & ~unlike).any() and ((called >= 0) & ~unlike).any():
        lines.append(
            "warning: the confusions are those of all test cells, but classes with high confidence are confused less "
            "often: corrected counts are biased. Predict without --min_confidence and --accuracy to count."
        )
    return lines


def describe_counts(counts: Counts, confusion: Confusion, left_out: list[str]) -> str:
    """Return the lines to print: one per group and class, followed by warnings.

    Args:
        counts: counts with their intervals.
        confusion: confusion matrices that corrected them.
        left_out: lines of `describe_left_out`.
    """
    table = counts.table(confusion.classes).to_pylist()
    header = ["group", "class", "called", "corrected", "95 %"]
    rows = [
        [
            printable(row["group"] or "-"),
            printable(row["class"]),
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
    lines += left_out
    num = len(confusion.tables)
    if num < LEAST_RECORDINGS:
        cells = int(confusion.counts.sum())
        by = f"{cells:,} test cell{'s' * (cells != 1)} and an assumed difference between recordings"
    else:
        by = f"how the {num:,} test recordings differ"
    lines.append(f"intervals: 95 %, for a new recording; computed from its cells and {by}")
    return join_lines([*lines, *(f"warning: {text}" for text in confusion.warnings())])
