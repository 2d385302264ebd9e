"""Figures of individual cells: occlusion maps, t-SNE plots of layer outputs, and the most confident errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from fastcell.explain.embedding import NEIGHBOURS, Embedding
from fastcell.explain.occlusion import OcclusionMaps
from fastcell.plots.basic_figures import COLORS, contact_sheet
from fastcell.plots.figure_files import FigureFiles

EXAMPLES = 4  # cells drawn per class in the figure of occlusion maps
ERRORS = 8  # errors drawn per true class on the contact sheet
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")


def draw_occlusion(
    figures: FigureFiles,
    images: np.ndarray,
    maps: OcclusionMaps,
    labels: np.ndarray,
    cell_ids: np.ndarray,
    classes: list[str],
    about: str,
) -> None:
    """Draw cells beside maps of the probability that covering loses (`occlusion`), and its mean by class.

    Args:
        figures: Collection that receives both figures.
        images: (N, S, S) float32, preprocessed cells.
        maps: Occlusion maps of the same N cells.
        labels: (N,) int, true classes.
        cell_ids: (N,) int64.
        classes: Names of the K classes.
        about: Caption text that describes the cells and the covered square.
    """
    shown = [name for label, name in enumerate(classes) if (labels == label).any()]
    loss = maps.plain[:, None, None] - maps.covered
    figure = Figure(figsize=(1.6 + 2.5 * EXAMPLES, 1.1 + 1.32 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 2 * EXAMPLES, squeeze=False)
    drawn: list[int] = []
    for line, name in enumerate(shown):
        cells = np.flatnonzero(labels == classes.index(name))[:EXAMPLES]
        largest = max(float(np.abs(loss[cells]).max()), 1e-3)  # a scale for each class
        for place in range(2 * EXAMPLES):
            axes = grid[line, place]
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if place // 2 >= len(cells):
                continue
            cell = int(cells[place // 2])
            if place % 2 == 0:
                axes.imshow(images[cell], cmap="gray", interpolation="nearest")
                axes.set_title(f"p = {maps.plain[cell]:.2f}", fontsize=7, pad=2)
                drawn.append(cell)
            else:
                image = axes.imshow(loss[cell], cmap="PuOr_r", vmin=-largest, vmax=largest, interpolation="nearest")
        grid[line, 0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
        bar = figure.colorbar(image, ax=grid[line], fraction=0.02, pad=0.01)
        bar.ax.tick_params(labelsize=6)
    figure.suptitle("Occlusion maps: probability lost where the cell is covered", fontsize=10)
    most = max(int((labels == label).sum()) for label in range(len(classes)))
    number = ("Up to " if _is_short(labels, classes) else "") + f"{min(EXAMPLES, most)} cells per class"
    caption = (
        "Preprocessed cells and their occlusion maps. A map shows the decrease of the probability p of the true class "
        "when a square around each place is covered; the number above a cell is p without a square. Each class has its "
        f"own scale. {number} are shown, chosen at random; maps were computed for {about}"
    )
    figures.add("occlusion", figure, caption, _map_table(maps, labels, cell_ids, classes, drawn))
    _draw_mean(figures, maps, labels, classes, shown, about)


def _is_short(labels: np.ndarray, classes: list[str]) -> bool:
    """Return whether a class has fewer cells, but not none, than the number drawn per class."""
    counts = np.bincount(labels, minlength=len(classes))
    return bool((counts[counts > 0] < EXAMPLES).any())


def _draw_mean(
    figures: FigureFiles, maps: OcclusionMaps, labels: np.ndarray, classes: list[str], shown: list[str], about: str
) -> None:
    loss = maps.plain[:, None, None] - maps.covered
    members = [np.flatnonzero(labels == classes.index(name)) for name in shown]
    means = [loss[cells].mean(axis=0) for cells in members]
    largest = max(float(np.abs(np.stack(means)).max()), 1e-3)
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(1.2 + 1.75 * columns, 0.9 + 1.85 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    for axes, name, mean, cells in zip(grid.flat, shown, means, members, strict=False):
        image = axes.imshow(mean, cmap="PuOr_r", vmin=-largest, vmax=largest, interpolation="nearest")
        axes.set_title(f"{name}, n = {len(cells)}", fontsize=8)
    bar = figure.colorbar(image, ax=grid, fraction=0.03, pad=0.02)
    bar.set_label("mean decrease\nof probability", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle("Mean occlusion map of each class", fontsize=10)
    side = maps.covered.shape[1]
    row, column = (index.ravel() for index in np.indices((side, side)))
    table = pa.concat_tables(
        pa.table({"class": [name] * side**2, "row": row, "column": column, "loss": mean.ravel()})
        for name, mean in zip(shown, means, strict=True)
    )
    caption = f"Decrease of the probability of the true class under a square, mean over the cells of the class. {about}"
    figures.add("occlusion_mean", figure, caption, table)


def _map_table(
    maps: OcclusionMaps, labels: np.ndarray, cell_ids: np.ndarray, classes: list[str], drawn: list[int]
) -> pa.Table:
    """Return a table with one row per cell and place; `is_drawn` marks the cells that the figure shows."""
    cell, row, column = (index.ravel() for index in np.indices(maps.covered.shape))
    is_drawn = np.isin(np.arange(len(labels)), drawn)
    return pa.table(
        {
            "cell_id": cell_ids[cell],
            "class": np.array(classes)[labels][cell],
            "is_drawn": is_drawn[cell],
            "plain": maps.plain[cell],
            "row": row,
            "column": column,
            "probability": maps.covered.ravel(),
        }
    )


def draw_embeddings(
    figures: FigureFiles, embeddings: Sequence[Embedding], labels: np.ndarray, classes: list[str], about: str
) -> None:
    """Draw t-SNE plots of the cells, one panel per layer.

    Args:
        figures: Collection that receives the figure.
        embeddings: One embedding per layer, all of the same N cells.
        labels: (N,) int, true classes.
        classes: Names of the K classes.
        about: Caption text that describes the cells.
    """
    columns = min(2, len(embeddings))
    rows = -(-len(embeddings) // columns)
    figure = Figure(figsize=(0.4 + 3.6 * columns, 1.3 + 3.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(embeddings) :]:
        axes.axis("off")
    order = np.random.default_rng(0).permutation(len(labels))  # random order, so that no class covers another
    for axes, layer in zip(grid.flat, embeddings, strict=False):
        for label, name in enumerate(classes):
            cells = order[labels[order] == label]
            style = {"marker": _MARKERS[label % len(_MARKERS)], "color": COLORS[label % len(COLORS)]}
            if len(cells):
                axes.scatter(*layer.points[cells].T, s=9, linewidths=0, alpha=0.75, label=name, **style)
        axes.set_title(f"{layer.name} ({layer.num_values:,} values): neighbours {layer.agreement:.2f}", fontsize=8.5)
        axes.set_xticks([])
        axes.set_yticks([])
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, names, frameon=False, fontsize=8, loc="outside upper center", ncols=min(len(names), 7), markerscale=1.8
    )
    figures.add(
        "embedding",
        figure,
        f"t-SNE of the layer outputs (after PCA to 50), {about}; axes have no unit. Neighbours: mean share of a cell's "
        f"{NEIGHBOURS} nearest neighbours in the layer output that have its class.",
        pa.concat_tables(
            pa.table(
                {
                    "layer": [layer.name] * len(labels),
                    "class": np.array(classes)[labels],
                    "x": layer.points[:, 0],
                    "y": layer.points[:, 1],
                }
            )
            for layer in embeddings
        ),
    )


class ConfidentErrors:
    """Select the most confident errors of each true class.

    Args:
        probabilities: (N, K) class probabilities.
        labels: (N,) int, true classes.
        most: Maximum number of errors selected per true class.

    Attributes:
        rows: (E,) int64, row indices of the selected errors, ordered by true class, then by decreasing confidence.
        num_wrong, num_cells: (K,) int64, number of all errors and of all cells of each true class.
    """

    def __init__(self, probabilities: np.ndarray, labels: np.ndarray, most: int = ERRORS) -> None:
        num_classes = probabilities.shape[1]
        wrong = probabilities.argmax(axis=1) != labels
        confidence = probabilities.max(axis=1)
        rows = []
        for label in range(num_classes):
            mine = np.flatnonzero(wrong & (labels == label))
            rows.append(mine[np.argsort(-confidence[mine], kind="stable")][:most])
        self.rows = np.concatenate(rows)
        self.num_wrong = np.bincount(labels[wrong], minlength=num_classes)
        self.num_cells = np.bincount(labels, minlength=num_classes)


def draw_errors(
    figures: FigureFiles,
    errors: ConfidentErrors,
    pictures: Sequence[np.ndarray],
    probabilities: np.ndarray,
    labels: np.ndarray,
    keys: np.ndarray,
    classes: list[str],
    about: str,
) -> None:
    """Draw the selected errors as raw cells at one scale, one row per true class, labelled with the predicted class.

    Args:
        figures: Collection that receives the figure.
        errors: The selected errors.
        pictures: Raw cells (H, W) uint8 of `errors.rows`, in the same order.
        probabilities: (N, K) class probabilities.
        labels: (N,) int, true classes.
        keys: (N,) str, keys of the cells.
        classes: Names of the K classes.
        about: Caption text that describes the cells.
    """
    rows: dict[str, list[np.ndarray]] = {}
    notes: dict[str, list[str]] = {}
    called, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    for row, picture in zip(errors.rows.tolist(), pictures, strict=True):
        label = int(labels[row])
        name = f"{classes[label]}\n{errors.num_wrong[label]:,} of {errors.num_cells[label]:,}"
        rows.setdefault(name, []).append(picture)
        notes.setdefault(name, []).append(f"{classes[called[row]]} {confidence[row]:.2f}")
    figure = contact_sheet(rows, "The most confident errors", ERRORS, notes=notes)
    picked = errors.rows
    figures.add(
        "errors",
        figure,
        f"Errors with the highest confidence, {about}. Raw cells at one scale; one row per true class, with numbers "
        "of errors and cells. The predicted class and its probability stand below each cell.",
        pa.table(
            {
                "key": pa.array(keys[picked].tolist(), pa.string()),
                "true_class": np.array(classes)[labels[picked]],
                "called_class": np.array(classes)[called[picked]],
                "confidence": confidence[picked],
                "p_true_class": probabilities[picked, labels[picked]],
            }
        ),
    )
