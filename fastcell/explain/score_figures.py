"""Figures of a classifier's probabilities: calibration, ROC and precision-recall curves, and the reject option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from fastcell.plots.basic_figures import COLORS, LINES
from fastcell.plots.figure_files import FigureFiles
from fastcell.stats.calibration import BINS, Reliability
from fastcell.stats.intervals import Interval
from fastcell.stats.operating_curves import ClassCurve, RejectCurve, coverage_at, thinned

GOALS = (0.9, 0.95, 0.98, 0.99)  # accuracies whose coverage the caption states
_MARKERS = ("o", "s")


def draw_calibration(
    figures: FigureFiles,
    curves: Mapping[str, tuple[Reliability, Interval]],
    about: str,
) -> None:
    """Draw accuracy by confidence, and the number of cells by confidence.

    Args:
        figures: Collection that receives the figure.
        curves: Curve name, for example ``as trained``, to reliability and expected calibration error.
        about: Caption text that describes the cells and the origin of the temperature.
    """
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    upper.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":", label="calibrated")
    edges = np.linspace(0, 1, BINS + 1)
    columns: dict[str, list[object]] = {name: [] for name in ("curve", "bin_low", "bin_high", "cells")}
    columns |= {"confidence": [], "accuracy": []}
    for index, (name, (binned, error)) in enumerate(curves.items()):
        full = binned.num_cells > 0
        upper.plot(
            binned.confidence[full],
            binned.accuracy[full],
            color=COLORS[index],
            linestyle=LINES[index],
            marker=_MARKERS[index],
            markersize=3.5,
            linewidth=1.2,
            label=f"{name}: error {error.describe()}",
        )
        style = {"color": COLORS[index], "linestyle": LINES[index]}
        lower.stairs(binned.num_cells, edges, **style, linewidth=1.2)
        columns["curve"] += [name] * BINS
        columns["bin_low"] += edges[:-1].tolist()
        columns["bin_high"] += edges[1:].tolist()
        for field, values in (("cells", binned.num_cells), ("confidence", binned.confidence)):
            columns[field] += [None if np.isnan(value) else value for value in values.tolist()]
        columns["accuracy"] += [None if np.isnan(value) else value for value in binned.accuracy.tolist()]
    upper.set_ylabel("accuracy (share classified correctly)")
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1.02)
    upper.grid(alpha=0.3)
    figure.legend(*upper.get_legend_handles_labels(), frameon=False, fontsize=7.5, loc="outside upper center")
    upper.set_title("Calibration", fontsize=10)
    lower.set_ylabel("cells")
    lower.set_xlabel("confidence (probability of the predicted class)")
    lower.grid(alpha=0.3)
    figures.add(
        "calibration",
        figure,
        f"Accuracy by confidence in {BINS} bins of equal width, {about}. Error: expected calibration error with its "
        "95 % interval.",
        pa.table(columns),
    )


def draw_class_curves(figures: FigureFiles, curves: Mapping[str, ClassCurve], about: str) -> None:
    """Draw the ROC and the precision-recall curve of each class against the rest.

    Args:
        figures: Collection that receives the figure.
        curves: Class name to its curve.
        about: Caption text that describes the cells.
    """
    figure = Figure(figsize=(8.4, 4.3 + 0.09 * len(curves)), layout="constrained")
    left, right = figure.subplots(1, 2)
    tables = []
    for index, (name, curve) in enumerate(curves.items()):
        style = {"color": COLORS[index % len(COLORS)], "linestyle": LINES[(index + index // len(COLORS)) % len(LINES)]}
        label = f"{name} (n = {curve.num_positive:,}): area {curve.area.describe()}, "
        label += f"precision {curve.average_precision.describe()}"
        points = thinned(np.stack(curve[:4], axis=1))
        left.plot(points[:, 1], points[:, 2], **style, linewidth=1.3, label=label)
        right.plot(points[1:, 2], points[1:, 3], **style, linewidth=1.3, drawstyle="steps-pre")
        header = ("threshold", "false_positive_rate", "true_positive_rate", "precision")
        tables.append(pa.table({"class": [name] * len(points), **dict(zip(header, points.T, strict=True))}))
    left.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
    left.set_xlabel("false positive rate (share of the other cells)")
    left.set_ylabel("true positive rate (share of the class)")
    left.set_title("ROC", fontsize=10)
    right.set_xlabel("recall (share of the class)")
    right.set_ylabel("precision (share of the predicted cells)")
    right.set_title("Precision and recall", fontsize=10)
    for axes in (left, right):
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.02)
        axes.grid(alpha=0.3)
    figure.legend(
        *left.get_legend_handles_labels(),
        frameon=False,
        fontsize=7.5,
        loc="outside upper center",
        ncols=2,
        handlelength=3,
    )
    caption = f"Each class against the rest, {about}. Area: under the ROC curve. Precision: average precision."
    figures.add("roc_pr", figure, caption, pa.concat_tables(tables))


def draw_reject(figures: FigureFiles, curve: RejectCurve, about: str) -> None:
    """Draw the accuracy of the answered cells by their share.

    Args:
        figures: Collection that receives the figure.
        curve: Curve from `fastcell.stats.operating_curves.reject_curve`.
        about: Caption text that describes the cells.
    """
    figure = Figure(figsize=(4.8, 4.0), layout="constrained")
    axes = figure.add_subplot()
    coverage = 100 * curve.coverage
    axes.fill_between(coverage, curve.low, curve.high, color=COLORS[0], alpha=0.2, linewidth=0, label="95 % interval")
    axes.plot(coverage, curve.accuracy, color=COLORS[0], linewidth=1.4, label="accuracy")
    axes.set_xlabel("cells answered, the most confident first [%]")
    axes.set_ylabel("accuracy among them")
    axes.set_xlim(0, 100)
    axes.set_ylim(max(0.0, min(curve.accuracy.min(), np.nanmin(curve.low[coverage > 5], initial=1)) - 0.03), 1.005)
    axes.set_title(f"Reject option: {curve.accuracy[-1]:.3f} where every cell is answered", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    figures.add(
        "reject",
        figure,
        f"Accuracy if only the most confident predictions are kept, {about}. {describe_goals(curve)}",
        pa.table(dict(zip(RejectCurve._fields, curve, strict=True))),
    )


def describe_goals(curve: RejectCurve, goals: Sequence[float] = GOALS) -> str:
    """Return a sentence with the share of the cells whose predictions can be kept at given accuracies.

    Args:
        curve: Curve from `fastcell.stats.operating_curves.reject_curve`.
        goals: Accuracies from 0 to 1. Those that all cells together reach are left out.
    """
    reached = [goal for goal in goals if curve.accuracy[-1] < goal]
    if not reached:
        return f"The predictions of all cells have an accuracy of {curve.accuracy[-1]:.3f}."

    def share(goal: float, lower_end: bool) -> str:
        found = coverage_at(curve, goal, lower_end)
        return f"{100 * found:.0f} % of the cells" if found else "none"

    shares = [f"{100 * goal:g} % for {share(goal, False)} ({share(goal, True)})" for goal in reached]
    return (
        f"Accuracy reaches {', '.join(shares)}; in brackets, share for which the lower end of the interval reaches it."
    )
