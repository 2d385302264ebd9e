"""Classification scores from the confusion matrix with bootstrap intervals, in the layout of the paper's Table IV.

The paper: Meng et al., IEEE JBHI 23(5), 2019, doi 10.1109/JBHI.2018.2878878.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastcell.stats.bootstrap import SCORE_TAIL, percentile_interval, resample_confusion, resampled_unit
from fastcell.stats.confusion import confusion_matrix

MEASURES = ("precision", "recall", "f_score")


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


def summarize(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str], groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, object]:
    """Compute all scores of a test set with their 95 % intervals, as the plain types of ``metrics.json``.

    Args:
        labels: (N,) int, true classes; cells with -1 are ignored.
        predicted: (N,) int, predicted classes.
        classes: K names.
        groups: (N,) or None; if given, groups are resampled.
        seed: seed of the bootstrap.

    Returns:
        ``num_cells``, ``interval_by``, ``accuracy`` and the other scores as ``{"value", "low", "high"}``, and
        ``classes``: for each name ``num_cells`` and each of `MEASURES` in the same form. NaN becomes None.
    """
    confusion = confusion_matrix(labels, predicted, len(classes))
    unit = resampled_unit(None if groups is None else groups[labels >= 0])
    if unit == "cell":
        groups = None
    value = score(confusion)
    resampled = score(resample_confusion(labels, predicted, len(classes), groups, seed=seed))

    def entry(name: str, index: tuple[int, ...] = ()) -> dict[str, float | None]:
        every = (slice(None), *index)
        low, high = percentile_interval(getattr(resampled, name)[every], SCORE_TAIL)
        numbers = {"value": getattr(value, name)[index], "low": low, "high": high}
        return {key: None if np.isnan(number) else float(number) for key, number in numbers.items()}

    per_class: dict[str, object] = {}
    for index, name in enumerate(classes):
        row: dict[str, object] = {"num_cells": int(confusion[index].sum())}
        row.update({measure: entry(measure, (index,)) for measure in MEASURES})
        per_class[name] = row
    return {
        "num_cells": int(confusion.sum()),
        "interval_by": unit,
        "accuracy": entry("accuracy"),
        "balanced_accuracy": entry("balanced_accuracy"),
        "one_vs_rest_accuracy": entry("one_vs_rest_accuracy"),
        "classes": per_class,
        "confusion": confusion.tolist(),
    }


def format_scores(summary: dict[str, object]) -> str:
    """Render the result of `summarize` in the layout of the paper's Table IV: a row per score, a column per class."""
    per_class: dict[str, dict[str, object]] = summary["classes"]  # type: ignore[assignment]
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
    lines.append("")
    for key, name in (
        ("accuracy", "accuracy"),
        ("balanced_accuracy", "balanced accuracy"),
        ("one_vs_rest_accuracy", "one-against-rest average accuracy (equation 6)"),
    ):
        lines.append(f"{name:<46}  {_number(summary[key])}  {_range(summary[key])}")
    lines.append(f"intervals: 95 %, bootstrap by {summary['interval_by']}, {summary['num_cells']} cells")
    return "\n".join(lines)


def _number(entry: object) -> str:
    value = entry["value"]  # type: ignore[index]
    return "-" if value is None else f"{value:.3f}"


def _range(entry: object) -> str:
    low, high = entry["low"], entry["high"]  # type: ignore[index]
    return "-" if low is None or high is None else f"{low:.3f}..{high:.3f}"
