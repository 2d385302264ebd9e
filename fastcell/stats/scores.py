"""Classification scores from the confusion matrix with their intervals, in the layout of the paper's Table IV.

The paper: Meng et al., IEEE JBHI 23(5), 2019, doi 10.1109/JBHI.2018.2878878.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastcell.stats.confusion import confusion_matrix, confusion_per_group
from fastcell.stats.intervals import IntervalArrays, unit_numbers
from fastcell.stats.score_intervals import f_score, mean_recall, one_vs_rest_accuracy, proportion

MOST_CLASSES, CLASSES_A_BLOCK = 60, 12
MEASURES = ("precision", "recall", "f_score")
_NO_CELLS = {"precision": "no cell is called this", "recall": "no cells", "f_score": "no cells"}


@dataclass(frozen=True)
class Scores:
    """Scores of one confusion matrix, or of a stack of them (every field then has the leading axes ``...``).

    Attributes:
        precision: (..., K) true positives over all cells predicted as the class; 0 if there are none.
        recall: (..., K) true positives over all cells of the class; NaN if there are none.
        f_score: (..., K) harmonic mean of the two; NaN if the class neither occurs nor is predicted.
        accuracy: (...) share of cells classified correctly.
        balanced_accuracy: (...) mean recall over the classes that occur.
        one_vs_rest_accuracy: (...) equation 6 of the paper: mean over classes of (TP + TN) / N. It counts every true
            negative, so it is higher than the accuracy and must not be compared with it.
    """

    precision: np.ndarray
    recall: np.ndarray
    f_score: np.ndarray
    accuracy: np.ndarray
    balanced_accuracy: np.ndarray
    one_vs_rest_accuracy: np.ndarray


def score(confusion: np.ndarray) -> Scores:
    """Compute all scores of ``confusion`` (..., K, K), row = true class, column = predicted class."""
    counts = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    support, called = counts.sum(-1), counts.sum(-2)
    total = counts.sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(called > 0, hits / called, 0.0)
        recall = hits / support
        f_score = 2 * hits / (support + called)
        balanced = np.where(support > 0, recall, 0.0).sum(-1) / (support > 0).sum(-1)
        wrong = (support + called - 2 * hits).sum(-1)
        one_vs_rest = 1 - wrong / (counts.shape[-1] * total)
        accuracy = hits.sum(-1) / total
    return Scores(precision, recall, f_score, accuracy, balanced, one_vs_rest)


class ScoreIntervals(NamedTuple):
    """Scores of one or more confusion matrices with their intervals; the fields are those of `Scores`."""

    precision: IntervalArrays
    recall: IntervalArrays
    f_score: IntervalArrays
    accuracy: IntervalArrays
    balanced_accuracy: IntervalArrays
    one_vs_rest_accuracy: IntervalArrays


def score_intervals(tables: np.ndarray, grouped: bool = True) -> ScoreIntervals:
    """Compute all scores and their 95 % intervals.

    Args:
        tables: (G, K, K) confusion matrices of the groups, row = true class, column = predicted class; numbers need not
            be whole.
        grouped: whether the matrices are those of groups; otherwise they are summed and the intervals are by cell.

    Returns:
        Precision, recall and F-score (K,), and the other scores ().
    """
    counts = np.asarray(tables, np.float64)
    hits = np.diagonal(counts, axis1=1, axis2=2).T  # (K, G)
    support, called = counts.sum(2).T, counts.sum(1).T
    all_hits, cells = hits.sum(0), support.sum(0)
    precision = proportion(hits, called, grouped)
    return ScoreIntervals(
        precision._replace(value=np.nan_to_num(precision.value)),
        proportion(hits, support, grouped),
        f_score(hits, support, called, grouped),
        proportion(all_hits, cells, grouped),
        mean_recall(counts, grouped),
        one_vs_rest_accuracy(all_hits, cells, counts.shape[1], grouped),
    )


def summarize(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str], groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Compute all scores of a test set with their 95 % intervals, as the plain types of ``metrics.json``.

    Args:
        labels: (N,) int, true classes; cells with -1 are ignored.
        predicted: (N,) int, predicted classes.
        classes: K names.
        groups: (N,) names or None; a cell with an empty name is a group by itself.

    Returns:
        ``num_cells``, ``num_groups`` (0 without groups), ``interval_by``, ``interval_note``, ``accuracy`` and the other
        scores as ``{"value", "low", "high", "by", "note"}``, and ``classes``: for each name ``num_cells`` and each of
        `MEASURES` in the same form. NaN becomes None. ``interval_by`` is that of the accuracy; a class that only one
        group holds has ``by`` cell.
    """
    confusion = confusion_matrix(labels, predicted, len(classes))
    known = labels >= 0
    tables, num_groups = confusion[None], 0
    if groups is not None and known.any():
        tables = confusion_per_group(labels[known], predicted[known], unit_numbers(groups[known]), len(classes))
        num_groups = len(tables)
    found = score_intervals(tables, num_groups > 0)
    per_class: dict[str, object] = {}
    for index, name in enumerate(classes):
        row: dict[str, object] = {"num_cells": int(confusion[index].sum())}
        row.update(
            {measure: getattr(found, measure).interval(index, _NO_CELLS[measure]).as_json() for measure in MEASURES}
        )
        per_class[name] = row
    accuracy = found.accuracy.interval()
    return {
        "num_cells": int(confusion.sum()),
        "num_groups": num_groups,
        "interval_by": "group" if num_groups > 1 else "cell",
        "interval_note": accuracy.note,
        "accuracy": accuracy.as_json(),
        "balanced_accuracy": found.balanced_accuracy.interval().as_json(),
        "one_vs_rest_accuracy": found.one_vs_rest_accuracy.interval().as_json(),
        "classes": per_class,
        "confusion": confusion.tolist(),
    }


def describe_unit(summary: Mapping[str, object]) -> str:
    """Return the unit of the intervals in a result of `summarize`, e.g. ``by group, 8 groups``."""
    num, note = summary["num_groups"], summary["interval_note"]
    if note:
        return f"by {summary['interval_by']} ({note})"
    return f"by group, {num:,} groups" if num else "by cell: they hold for cells drawn as these were"


def format_scores(summary: dict[str, object]) -> str:
    """Render the result of `summarize` in the layout of the paper's Table IV: a row per score, a column per class.

    Many classes take several blocks; `MOST_CLASSES` are shown.
    """
    per_class: dict[str, dict[str, object]] = summary["classes"]  # type: ignore[assignment]
    shown = list(per_class)[:MOST_CLASSES]
    lines = []
    for start in range(0, len(shown), CLASSES_A_BLOCK):
        lines += _class_block({name: per_class[name] for name in shown[start : start + CLASSES_A_BLOCK]})
    if len(per_class) > len(shown):
        lines.append(f"and {len(per_class) - len(shown):,} more classes: metrics.json has all")
    lines.append("")
    for key, name in (
        ("accuracy", "accuracy"),
        ("balanced_accuracy", "balanced accuracy"),
        ("one_vs_rest_accuracy", "one-against-rest average accuracy (equation 6)"),
    ):
        lines.append(f"{name:<46}  {_number(summary[key])}  {_range(summary[key])}")
    lines.append(f"intervals: 95 %, {describe_unit(summary)}; {summary['num_cells']:,} cells")
    lines += [f"{name}: {text}" for name, text in class_notes(summary)]
    return "\n".join(lines)


def _class_block(per_class: Mapping[str, Mapping[str, object]]) -> list[str]:
    header = ["", *per_class]
    rows = [["cells", *(str(row["num_cells"]) for row in per_class.values())]]
    for measure in MEASURES:
        name = measure.replace("_", "-")
        rows.append([name, *(_number(row[measure]) for row in per_class.values())])
        rows.append(["  95 %", *(_range(row[measure]) for row in per_class.values())])
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join(text.ljust(widths[0]) if i == 0 else text.rjust(widths[i]) for i, text in enumerate(line)).rstrip()
        for line in [header, *rows]
    ]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return lines


def class_notes(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return class and note for each class whose recall has another note than the accuracy, e.g. fewer groups."""
    found = []
    for name, row in summary["classes"].items():
        note = row["recall"].get("note", "")
        if note and note != summary.get("interval_note", "") and row["num_cells"]:
            found.append((name, note))
    return found


def is_defined(entry: Mapping[str, Any]) -> bool:
    """Return False for a score without cells, such as the precision of a class that is never predicted.

    Args:
        entry: a score in a result of `summarize`.
    """
    value = entry["value"]
    return value is not None and not np.isnan(value) and entry.get("note") != _NO_CELLS["precision"]


def _number(entry: Any) -> str:
    return f"{entry['value']:.3f}" if is_defined(entry) else "-"


def _range(entry: object) -> str:
    low, high = entry["low"], entry["high"]  # type: ignore[index]
    return "-" if low is None or high is None else f"{low:.3f}..{high:.3f}"
