"""Figures of the studies, in the style of `fastcell.plots.basic_figures`: PDF, PNG, and the data as CSV beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from fastcell.compare.result_tables import Entry
from fastcell.plots.basic_figures import COLORS, LINES
from fastcell.plots.figure_files import save_figure

_LEAST_SPAN = 0.4
_APART = 0.02
"""Distance of two methods at one volume, as a share of the axis; the axis has at least `_LEAST_SPAN` [log cells]."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def draw_volumes(entries: Sequence[Entry], names: Mapping[str, str], stem: Path, title: str, caption: str) -> None:
    """Draw test accuracy by number of training cells (the paper's Figure 5); bands = 95 % intervals, dots = seeds.

    At one volume the methods stand side by side.

    Args:
        entries: Entries of the test subset, of one scheme and image size.
        names: Display name of each method.
        stem: Path of the files without extension.
        title: Text above the axes.
        caption: Text below the axes: what is shown, with n.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    volumes = sorted({entry.num_train for entry in entries})
    methods = list(dict.fromkeys(entry.method for entry in entries))
    span = max(float(np.ptp(np.log(volumes))), _LEAST_SPAN) if volumes else _LEAST_SPAN
    for index, method in enumerate(methods):
        row = sorted((entry for entry in entries if entry.method == method), key=lambda entry: entry.num_train)
        beside = np.exp((index - (len(methods) - 1) / 2) * _APART * span)  # so that intervals do not hide each other
        x = np.array([entry.num_train * beside for entry in row])
        color, line = COLORS[index % len(COLORS)], LINES[index % len(LINES)]
        axes.fill_between(x, [e.low for e in row], [e.high for e in row], color=color, alpha=0.15, linewidth=0)
        style: dict[str, Any] = {"color": color, "linestyle": line, "marker": MARKERS[index % len(MARKERS)]}
        y = np.array([e.accuracy for e in row])
        error = np.clip([y - [e.low for e in row], [e.high for e in row] - y], 0, None)
        axes.errorbar(x, y, error, markersize=5, capsize=2, elinewidth=0.8, label=names.get(method, method), **style)
        for entry in row:
            places = np.full(len(entry.by_seed), entry.num_train * beside)
            axes.plot(places, entry.by_seed, linestyle="", marker=".", markersize=3, color=color, alpha=0.6)
    axes.set_xscale("log")
    if len(volumes) == 1:
        axes.set_xlim(volumes[0] * np.exp(-span), volumes[0] * np.exp(span))
    axes.set_xticks(_apart(volumes), [f"{volume:,.0f}" for volume in _apart(volumes)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("training cells (log axis)")
    axes.set_ylabel("test accuracy")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, stem, _table(entries), caption)


def draw_losses(curves: Mapping[str, Mapping[str, np.ndarray]], stem: Path, title: str, caption: str) -> None:
    """Draw validation and training accuracy by iteration for each loss (the paper's Figure 7); bands = range of seeds.

    Args:
        curves: For each loss, ``valid_accuracy`` and ``train_accuracy``: (S, P, 2) float, iteration and value for S
            seeds at P points.
        stem: Path of the files without extension.
        title: Text above the axes.
        caption: Text below the axes.
    """
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    rows: list[dict[str, object]] = []
    for place, (measure, text) in enumerate(
        (("valid_accuracy", "validation accuracy"), ("train_accuracy", "training accuracy")), start=1
    ):
        axes = figure.add_subplot(1, 2, place)
        for index, (loss, of_loss) in enumerate(curves.items()):
            points = of_loss[measure]
            x, y = points[0, :, 0], points[:, :, 1]
            color = COLORS[index]
            axes.fill_between(x, y.min(0), y.max(0), color=color, alpha=0.15, linewidth=0)
            axes.plot(x, y.mean(0), color=color, linestyle=LINES[index], label=loss)
            for seed in range(len(y)):
                rows += [
                    {"measure": measure, "loss": loss, "seed": seed, "iteration": int(step), "value": f"{value:.6g}"}
                    for step, value in zip(x, y[seed], strict=True)
                ]
        axes.set_xlabel("iteration")
        axes.set_ylabel(text)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.suptitle(title, fontsize=10)
    save_figure(figure, stem, pa.Table.from_pylist(rows), caption)


def draw_resolutions(entries: Sequence[Entry], stem: Path, title: str, caption: str) -> None:
    """Draw a heat map of test accuracy, with image sizes in rows and numbers of training cells in columns.

    Args:
        entries: Entries of the test subset, of one scheme and method.
        stem: Path of the files without extension.
        title: Text above the map.
        caption: Text below the map.
    """
    sizes = sorted({entry.image_size for entry in entries}, reverse=True)
    volumes = sorted({entry.volume for entry in entries})
    values = np.full((len(sizes), len(volumes)), np.nan)
    texts = [["" for _ in volumes] for _ in sizes]
    cells = {volume: next(e.num_train for e in entries if e.volume == volume) for volume in volumes}
    for entry in entries:
        i, j = sizes.index(entry.image_size), volumes.index(entry.volume)
        values[i, j] = entry.accuracy
        texts[i][j] = f"{entry.accuracy:.3f}" + ("" if entry.std is None else f"\n± {entry.std:.3f}")
    figure = Figure(figsize=(2.6 + 0.95 * len(volumes), 1.9 + 0.62 * len(sizes)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="cividis", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for i in range(len(sizes)):
        for j in range(len(volumes)):
            color = "white" if values[i, j] < middle else "black"
            axes.text(j, i, texts[i][j], ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(volumes)), [f"{cells[volume]:,.0f}" for volume in volumes])
    axes.set_yticks(range(len(sizes)), [f"{size} × {size}" for size in sizes])
    axes.set_xlabel("training cells")
    axes.set_ylabel("image size [px]")
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axes, label="test accuracy", fraction=0.06)
    save_figure(figure, stem, _table(entries), caption)


def draw_bars(
    entries: Sequence[Entry],
    names: Mapping[str, str],
    schemes: Mapping[str, str],
    chance: float,
    stem: Path,
    title: str,
    caption: str,
) -> None:
    """Draw test accuracy of each method as one bar per scheme, with 95 % intervals and a line at chance level.

    Args:
        entries: entries of the test subset at one data volume.
        names: Display name of each method.
        schemes: Display text of each scheme by name, in the order of the bars.
        chance: Accuracy of a classifier that always predicts the largest class.
        stem: Path of the files without extension.
        title: Text above the axes.
        caption: Text below the axes.
    """
    methods = list(dict.fromkeys(entry.method for entry in entries))
    figure = Figure(figsize=(2.4 + 1.7 * len(methods), 4.4), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(schemes)
    for index, (scheme, text) in enumerate(schemes.items()):
        row = {entry.method: entry for entry in entries if entry.scheme == scheme}
        there = [method for method in methods if method in row]
        x = np.array([methods.index(method) for method in there]) + (index - (len(schemes) - 1) / 2) * width
        height = np.array([row[method].accuracy for method in there])
        error = np.array([[row[m].accuracy - row[m].low, row[m].high - row[m].accuracy] for m in there]).T
        style: dict[str, Any] = {"color": COLORS[index], "hatch": ("", "//", "..")[index % 3], "edgecolor": "white"}
        axes.bar(x, height, width=0.94 * width, label=text, **style)
        axes.errorbar(x, height, np.clip(error, 0, None), linestyle="", color="black", capsize=3, linewidth=1)
        for place, method in zip(x, there, strict=True):
            entry = row[method]
            axes.text(place, entry.high + 0.015, f"{entry.accuracy:.3f}", fontsize=7, ha="center", va="bottom")
    axes.axhline(chance, color="black", linestyle=":", linewidth=1)
    axes.set_xlim(-0.95, len(methods) - 0.5)
    axes.text(-0.93, chance + 0.01, f"largest class\n{chance:.3f}", fontsize=7, va="bottom")
    axes.set_xticks(range(len(methods)), [names.get(method, method) for method in methods])
    axes.set_ylim(0, 1.08)
    axes.set_ylabel("test accuracy")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}" if value <= 1 else ""))
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    save_figure(figure, stem, _table(entries), caption)


def _apart(volumes: Sequence[float]) -> list[float]:
    """Return the volumes whose labels do not overlap on a log axis, always including the largest."""
    kept: list[float] = []
    span = np.log10(max(volumes) / min(volumes)) or 1.0
    for volume in sorted(volumes, reverse=True):
        if not kept or np.log10(kept[-1] / volume) > 0.09 * span:
            kept.append(volume)
    return kept[::-1]


def _table(entries: Sequence[Entry]) -> pa.Table:
    return pa.Table.from_pylist([_row(entry) for entry in entries])


def _row(entry: Entry) -> dict[str, object]:
    return {
        "scheme": entry.scheme,
        "method": entry.method,
        "image_size_px": entry.image_size,
        "volume": entry.volume,
        "training_cells": f"{entry.num_train:.1f}",
        "test_cells": entry.num_cells,
        "seeds": entry.num_seeds,
        "splits": entry.num_splits,
        "accuracy": f"{entry.accuracy:.6f}",
        "std": "" if entry.std is None else f"{entry.std:.6f}",
        "low": f"{entry.low:.6f}",
        "high": f"{entry.high:.6f}",
        "by_seed": " ".join(f"{value:.6f}" for value in entry.by_seed),
        "interval_by": entry.by,
        "units": entry.num_units,
    }
