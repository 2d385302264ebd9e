"""Basic figures: confusion matrix, training curves, class counts and contact sheets.

Figures are written as PNG; figures of a report also as PDF and CSV. All have a title and axis labels, and no figure
relies on colour alone. The module uses Matplotlib's object interface instead of pyplot, so it needs no display.
"""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fastcell.plots.figure_files import save_figure, save_png

# Okabe and Ito's colours, distinct for colour-blind readers; line styles distinguish curves printed in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
LINES = ("-", "--", "-.", ":")
MOST_LABELLED_BARS, MOST_NAMED_CLASSES = 40, 60
MOST_INCHES = 40.0
_MOST_NAME = 40


def draw_confusion(confusion: np.ndarray, classes: Sequence[str], stem: Path, about: str = "") -> None:
    """Draw a confusion matrix as PNG and PDF; the shade shows the share of the true class, the number the cells.

    More than `MOST_NAMED_CLASSES` are numbered from 0 and have shades alone. See `save_figure` for the files.

    Args:
        confusion: (K, K) int, row = true class, column = predicted class.
        classes: K names.
        stem: path without extension.
        about: description of the cells, for the caption.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    support = counts.sum(1, keepdims=True)
    share = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    num = len(classes)
    side = max(3.6, 1.4 + 0.62 * num) if num <= MOST_NAMED_CLASSES else 12.0
    figure = Figure(figsize=(side + 0.9, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    size = 9 if num <= 12 else 6
    if num <= MOST_NAMED_CLASSES:
        for row, column in np.argwhere(counts).tolist():
            color = "white" if share[row, column] > 0.55 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color, fontsize=size)
        axes.set_xticks(range(num), list(classes), rotation=45 if max(map(len, classes)) > 5 else 0, fontsize=size)
        axes.set_yticks(range(num), list(classes), fontsize=size)
    axes.set_xlabel("called class")
    axes.set_ylabel("true class")
    total = counts.sum()
    accuracy = f", accuracy {np.trace(counts) / total:.3f}" if total else ""
    axes.set_title(f"Confusion matrix: {total:,} cells{accuracy}", fontsize=10)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.05)
    save_figure(figure, stem, None, f"Cells by true and predicted class, n = {total:,}{f', {about}' if about else ''}.")


def draw_curves(metrics_csv: Path, stem: Path, about: str = "") -> None:
    """Draw accuracy and loss by iteration (the paper's Figure 6) as PNG and PDF; see `save_figure`.

    Args:
        metrics_csv: Lightning's CSV log with the column ``step`` and any of ``train_loss``, ``train_accuracy``,
            ``valid_loss`` and ``valid_accuracy``; values may be empty.
        stem: path without extension.
        about: description of the cells, for the caption.
    """
    with open(metrics_csv, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for place, (measure, label) in enumerate((("accuracy", "accuracy"), ("loss", "loss")), start=1):
        axes = figure.add_subplot(1, 2, place)
        for index, part in enumerate(("train", "valid")):
            points = [
                (float(row["step"]), float(row[f"{part}_{measure}"])) for row in rows if row.get(f"{part}_{measure}")
            ]
            if points:
                axes.plot(
                    *np.array(points).T,
                    color=COLORS[index],
                    linestyle=LINES[index],
                    marker="o" if len(points) < 25 else None,
                    markersize=3,
                    label={"train": "training", "valid": "validation"}[part],
                )
        axes.set_xlabel("iteration")
        axes.set_ylabel(label)
        axes.set_title(f"{label.capitalize()} by iteration", fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    of = f" of {about}" if about else ""
    caption = (
        f"Accuracy (share classified correctly) and mean loss{of} during training; an iteration is one optimizer step."
    )
    save_figure(figure, stem, None, caption)


def draw_class_counts(before: Mapping[str, int], after: Mapping[str, int] | None, stem: Path, title: str) -> None:
    """Draw cells per class before and after balancing (the paper's Figure 2) as PNG, PDF and CSV; see `save_figure`.

    Args:
        before: number of recorded cells by class name.
        after: number of rows that training reads by class name; None if training repeats no cell.
        stem: path without extension.
        title: title above the bars.
    """
    names = list(before)
    places = np.arange(len(names))
    is_crowded = len(names) > MOST_LABELLED_BARS
    width = 1.6 + (0.16 if is_crowded else 0.9) * len(names)
    figure = Figure(figsize=(min(max(4.8, width), MOST_INCHES), 3.4), layout="constrained")
    axes = figure.add_subplot()
    shown = [("cells", before)] if after is None else [("before balancing", before), ("after balancing", after)]
    for index, (label, counts) in enumerate(shown):
        bars = axes.bar(
            places + (index - 0.5 * (len(shown) - 1)) * 0.38,
            [counts[name] for name in names],
            width=0.36,
            color=COLORS[index],
            hatch=("", "//")[index],
            edgecolor="white",
            label=label,
        )
        if not is_crowded:
            axes.bar_label(bars, fmt="{:,.0f}", fontsize=7, padding=1)
    if is_crowded:
        axes.set_xticks(places, names, rotation=90, fontsize=6)
    else:
        axes.set_xticks(places, names, rotation=30 if max(map(len, names)) > 8 else 0)
    axes.set_ylabel("cells")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_title(title, fontsize=10)
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    if after is None:
        caption = f"Training cells by class: {sum(before.values()):,}, none repeated."
        save_figure(figure, stem, pa.table({"class": names, "cells": list(before.values())}), caption)
        return
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    table = {"class": names, "before": list(before.values()), "after": [after[name] for name in names]}
    caption = (
        f"Cells by class: {sum(before.values()):,} as recorded, and {sum(after.values()):,} rows after classes are "
        "balanced by repeating cells."
    )
    save_figure(figure, stem, pa.table(table), caption)


def draw_contact_sheet(
    rows: Mapping[str, Sequence[np.ndarray]],
    path: Path,
    title: str,
    columns: int = 8,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Draw one row of cells per name, like `contact_sheet`, and write the sheet as PNG to ``path``."""
    save_png(contact_sheet(rows, title, columns, notes=notes), path)


def contact_sheet(
    rows: Mapping[str, Sequence[np.ndarray]],
    title: str,
    columns: int = 8,
    captions: Sequence[str] = (),
    notes: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Draw one row of cells per name, all at one scale and with their aspect ratio kept (the paper's Figure 1).

    Args:
        rows: at most ``columns`` images (H, W) uint8 of any size, by name.
        title: title above the sheet.
        columns: number of images in a row.
        captions: headings of the columns, if any.
        notes: texts below the images of each row, by the names in `rows`.
    """
    heights = [max((cell.shape[0] for cell in cells), default=1) for cells in rows.values()]
    width = max((cell.shape[1] for cells in rows.values() for cell in cells), default=1)
    inches = 1.35 / width  # one column is 1.35 inches wide
    gap = 0.12 if notes is None else 0.4
    figure = Figure(figsize=(1.1 + 1.45 * columns, 0.7 + sum(height * inches + gap for height in heights)))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for line, ((name, cells), height) in enumerate(zip(rows.items(), heights, strict=True)):
        for column in range(columns):
            axes: Axes = grid[line, column]
            axes.set_xlim(-0.5, width - 0.5)
            axes.set_ylim(height - 0.5, -0.5)
            axes.set_aspect("equal")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if column < len(cells):
                cell = cells[column]
                left, top = (width - cell.shape[1]) / 2 - 0.5, (height - cell.shape[0]) / 2 - 0.5
                extent = (left, left + cell.shape[1], top + cell.shape[0], top)
                axes.imshow(cell, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
                axes.set_xlim(-0.5, width - 0.5)
                axes.set_ylim(height - 0.5, -0.5)
                if notes is not None:
                    axes.set_xlabel(notes[name][column], fontsize=9, labelpad=2)
            if line == 0 and column < len(captions):
                axes.set_title(captions[column], fontsize=13)
            if column == 0:
                shown = name if len(name) <= _MOST_NAME else f"{name[: _MOST_NAME - 1]}…"
                lines = [textwrap.fill(line, 14) for line in shown.split("\n")]
                axes.set_ylabel("\n".join(lines), fontsize=14, rotation=0, ha="right", va="center")
    figure.suptitle(title, fontsize=15)
    return figure
