"""Figures of an audit: statistics with chance levels, class x recording, mean backgrounds, drift, doubtful labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fastcell.audit.drift import NUM_BINS, Drift
from fastcell.audit.findings import Finding
from fastcell.plots.basic_figures import COLORS, LINES, draw_contact_sheet
from fastcell.plots.figure_files import save_png
from fastcell.stats.association import Association

_MARKS = {
    "problem": ("X", COLORS[1]),
    "warning": ("D", COLORS[5]),
    "cannot tell": ("s", COLORS[6]),
    "ok": ("o", COLORS[0]),
}
_MOST_SEQUENCES = 5
_LEAST_BACKGROUND = 0.2


def draw_numbers(findings: Sequence[Finding], path: Path, title: str) -> None:
    """Draw the statistic of each test with its chance level, one panel for each unit; marker and colour = verdict.

    Args:
        findings: findings with verdicts; those without a chance level are omitted.
        path: PNG to write.
        title: title of the figure.
    """
    shown = [finding for finding in findings if finding.result is not None and np.isfinite(finding.result.chance)]
    units = list(dict.fromkeys(finding.unit for finding in shown))
    sizes = [sum(finding.unit == unit for finding in shown) for unit in units]
    figure = Figure(figsize=(8, 1.2 + 0.42 * len(shown) + 0.75 * len(units)), layout="constrained")
    grid = figure.subplots(len(units), 1, squeeze=False, height_ratios=[size + 0.6 for size in sizes])[:, 0]
    for axes, unit in zip(grid, units, strict=True):
        mine = [finding for finding in shown if finding.unit == unit]
        for place, finding in enumerate(mine):
            assert finding.result is not None
            mark, color = _MARKS[finding.verdict]
            result = finding.result
            ends = [result.chance, result.chance_high]
            axes.plot(ends, [place, place], color="0.65", linewidth=7, solid_capstyle="butt")
            axes.plot(result.number, place, mark, color=color, markersize=8)
        axes.set_yticks(range(len(mine)), [finding.title for finding in mine])
        axes.set_ylim(len(mine) - 0.5, -0.5)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel(unit, fontsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for verdict, (mark, color) in _MARKS.items():
        grid[0].plot([], [], mark, color=color, label=verdict)
    grid[0].plot([], [], color="0.65", linewidth=7, label="chance: mean to 95 % point")
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=5)
    figure.suptitle(title, fontsize=10)
    save_png(figure, path)


def draw_table(found: Association, path: Path, what: str, title: str) -> None:
    """Draw class x recording; the shade shows the share of the class, the number the cells.

    Args:
        found: table of classes (rows) by recordings (columns).
        path: PNG to write.
        what: ``group`` or ``collection``.
        title: title of the figure.
    """
    table = found.table
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    num_rows, num_columns = table.shape
    figure = Figure(figsize=(min(14, 2.6 + 0.62 * num_columns), min(14, 1.8 + 0.42 * num_rows)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if num_columns <= 20 and num_rows <= 40:
        for row in range(num_rows):
            for column in range(num_columns):
                if table[row, column]:
                    color = "white" if share[row, column] > 0.55 else "black"
                    text = f"{table[row, column]:,}"
                    axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    step = -(-num_columns // 40)
    long = max(map(len, found.columns)) > 4 or num_columns > 12
    axes.set_xticks(range(0, num_columns, step), found.columns[::step], rotation=60 if long else 0, fontsize=7)
    axes.set_yticks(range(num_rows), found.rows, fontsize=8)
    axes.set_xlabel(what)
    axes.set_ylabel("class")
    axes.set_title(f"{title}: Cramér's V {found.result.number:.2f}", fontsize=10)
    figure.colorbar(image, ax=axes, label="share of the class's cells", fraction=0.05)
    save_png(figure, path)


def draw_backgrounds(grey: np.ndarray, weight: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """Draw the mean background of each class at one scale, and its difference from the mean over the classes.

    Args:
        grey: (K, S, S) sums of background grey levels.
        weight: (K, S, S) number of cells that show background at each point.
        classes: K names.
        path: PNG to write.
        title: title of the figure.
    """
    present = [index for index in range(len(classes)) if weight[index].max() > 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = [
            np.where(weight[i] >= _LEAST_BACKGROUND * weight[i].max(), grey[i] / weight[i], np.nan) for i in present
        ]
        shown_there = np.isfinite(means)
        everyone = np.where(shown_there, means, 0).sum(0) / shown_there.sum(0)
    low, high = (float(bound(np.stack(means))) for bound in (np.nanmin, np.nanmax))
    off = [mean - everyone for mean in means]
    most = max(1.0, float(np.nanmax(np.abs(np.stack(off)))))
    shown = min(len(present), 8)
    figure = Figure(figsize=(1.6 + 1.7 * shown, 4.4), layout="constrained")
    grid = figure.subplots(2, shown, squeeze=False)
    for column in range(shown):
        above = grid[0, column].imshow(means[column], cmap="gray", vmin=low, vmax=max(high, low + 1))
        below = grid[1, column].imshow(off[column], cmap="PuOr", vmin=-most, vmax=most)
        grid[0, column].set_title(classes[present[column]], fontsize=9)
        for row in (0, 1):
            grid[row, column].set_xticks([])
            grid[row, column].set_yticks([])
            grid[row, column].set_facecolor("0.8")
    grid[0, 0].set_ylabel("mean background", fontsize=8)
    grid[1, 0].set_ylabel("minus the mean of the classes", fontsize=8)
    figure.colorbar(above, ax=grid[0], label="grey level", fraction=0.05)
    figure.colorbar(below, ax=grid[1], label="grey levels off", fraction=0.05)
    figure.suptitle(f"{title} (32 x 32, stretched; plain grey: hardly ever background)", fontsize=10)
    save_png(figure, path)


def draw_drift(drift: Drift, path: Path, title: str, most: int = 4) -> None:
    """Draw the features with the largest explained shares, over all sequences and in the sequences with most drift.

    Args:
        drift: drift to draw.
        path: PNG to write.
        title: title of the figure.
        most: largest number of features to draw.
    """
    shown = np.argsort(-drift.shares, kind="stable")[: min(most, len(drift.names))]
    figure = Figure(figsize=(9, 0.9 + 2.1 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 2, squeeze=False, sharex=True)
    place = (np.arange(NUM_BINS) + 0.5) / NUM_BINS * 100
    weights = np.sqrt(drift.sizes)
    orders = [np.argsort(-drift.by_sequence[f] * weights, kind="stable")[:_MOST_SEQUENCES].tolist() for f in shown]
    styles = _styles(drift.sequences, dict.fromkeys(one for some in orders for one in some))
    for row, feature in enumerate(shown):
        left, right = grid[row]
        low, high = drift.bands[:, feature]
        left.fill_between(place, low, high, color="0.8", label="95 % of permutations")
        left.plot(place, drift.curves[feature], color=COLORS[0], marker="o", markersize=3, label="mean of all")
        left.set_ylabel(f"{drift.names[feature]}\n[standard deviations]", fontsize=8)
        left.set_title(
            f"order explains {drift.shares[feature]:.1%} beyond chance, p {drift.p[feature]:.3f}", fontsize=9
        )
        for sequence in orders[row]:
            color, line = styles[int(sequence)]
            right.plot(
                place,
                drift.courses[feature, sequence],
                color=COLORS[color % len(COLORS)],
                linestyle=LINES[line % len(LINES)],
                label=f"{drift.sequences[sequence][-40:]} ({drift.sizes[sequence]:,})",
            )  # fmt: skip
        right.set_title("smooth course where it moves most", fontsize=9)
        right.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
        for axes in (left, right):
            axes.axhline(0, color="0.5", linewidth=0.6)
            axes.grid(alpha=0.3)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside lower left", ncols=2)
    for axes in grid[-1]:
        axes.set_xlabel("place in the order of the recording [%]")
    figure.suptitle(title, fontsize=10)
    save_png(figure, path)


def _styles(names: Sequence[str], shown: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Return numbers of colour and line of each shown sequence: a class has one colour in all panels.

    Args:
        names: names of all sequences, whose last part is the class.
        shown: sequences that are drawn.
    """
    colors: dict[str, int] = {}
    lines: dict[str, int] = {}
    styles = {}
    for sequence in shown:
        name = names[sequence].rpartition(" / ")[2]
        lines[name] = lines.get(name, -1) + 1
        styles[sequence] = (colors.setdefault(name, len(colors)), lines[name])
    return styles


def draw_doubtful(
    cells: Mapping[str, Sequence[np.ndarray]],
    notes: Mapping[str, Sequence[str]],
    path: Path,
    title: str,
    columns: int = 8,
) -> None:
    """Draw cells with doubtful labels, one row for each pair of classes, with a note under each cell."""
    draw_contact_sheet(cells, path, title, columns, notes=notes)
