"""Figures of the network itself: its layers with their shapes (the paper's Figure 3) and its filters (Figure 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from torch import nn

from fastcell.explain.layers import Layer
from fastcell.models.initialization import Init
from fastcell.models.registry import create_network
from fastcell.plots.basic_figures import COLORS
from fastcell.plots.figure_files import FigureFiles

HARDLY_MOVED = 0.3
"""Filters that moved less than this share of the length of their start values look as they did before training."""
MOST_MAPS, MOST_INPUTS = 64, 32  # drawn per convolution
_SLANT = (0.55, 0.4)  # offset of a block's back face, to the right and up, that shows its depth
_FACES = {"input": "#eeeeee", "convolution": COLORS[4], "max-pooling": COLORS[5], "full connection": COLORS[2]}


def draw_network(
    figures: FigureFiles, network_name: str, layers: Sequence[Layer], image_size: int, classes: list[str]
) -> None:
    """Draw each layer as a block: the front is the height and width of its maps, the depth the number of maps.

    Args:
        figures: Collection that receives the figure.
        network_name: Name of the network, for the caption.
        layers: Layers from `fastcell.explain.layers.trace_layers`.
        image_size: Side of the input [px].
        classes: Names of the K classes, drawn at the outputs.
    """
    blocks = [Layer("input", "", 1, image_size, 0, 0), *layers]
    figure = Figure(figsize=(1.2 + 0.95 * len(blocks), 3.6), layout="constrained")
    axes = figure.add_subplot()
    place = 0.0
    for number, block in enumerate(blocks):
        place += 0.0 if block.side else 0.35  # a column of units is narrower than its name
        width, top = _draw_block(axes, block, place, image_size)
        middle = place + width / 2
        shape = f"{block.channels:,}" if not block.side else f"{block.channels} @ {block.side} x {block.side}"
        axes.text(middle, top + 0.12, shape, ha="center", va="bottom", fontsize=7.5, fontweight="bold")
        # Alternate the names between two heights, so that neighbours never overlap.
        below = -1.62 - 0.95 * (number % 2)
        axes.plot([middle, middle], [-1.36, below], color="0.7", linewidth=0.6)
        name = block.name.replace("full ", "full\n")
        text = "\n".join([name, *filter(None, block.detail.split(", "))])
        axes.text(middle, below - 0.04, text, ha="center", va="top", fontsize=7, linespacing=1.15)
        place += width + 0.4
    axes.set_xlim(-0.3, place - 0.2)
    axes.set_ylim(-3.9, 2.5)
    axes.set_aspect("equal")
    axes.axis("off")
    weights, cost = sum(layer.num_weights for layer in layers), sum(layer.multiply_adds for layer in layers)
    axes.set_title(
        f"{network_name}: {weights:,} weights, {cost / 1e6:,.1f} million multiply-adds an image", fontsize=10
    )
    figures.add(
        "network",
        figure,
        f"The network {network_name} on an image of {image_size} x {image_size} pixels, {len(classes)} outputs "
        f"({', '.join(classes)}). Above each block: number of maps @ height x width, or number of "
        "units. Drawn lengths are the power 0.4 of the sides, and the logarithm of the depths.",
        pa.table({name: [getattr(block, name) for block in blocks] for name in Layer._fields}),
    )


def _draw_block(axes: Axes, block: Layer, left: float, image_size: int) -> tuple[float, float]:
    """Draw one block with the centre of its front at height 0, and return its width and the height of its top."""
    face = _FACES[block.name.rstrip(" 0123456789")]
    depth = 0.16 * np.log2(1 + block.channels)
    if not block.side:  # draw the units of a full connection as a column
        height = 0.3 * np.log2(1 + block.channels)
        axes.add_patch(Rectangle((left, -height / 2), 0.3, height, facecolor=face, edgecolor="black", linewidth=0.7))
        return 0.3, height / 2
    front = 2.4 * (block.side / image_size) ** 0.4
    right, top = left + front, front / 2
    dx, dy = depth * _SLANT[0], depth * _SLANT[1]
    axes.add_patch(Rectangle((left, -front / 2), front, front, facecolor=face, edgecolor="black", linewidth=0.7))
    roof = [(left, top), (left + dx, top + dy), (right + dx, top + dy), (right, top)]
    wall = [(right, top), (right + dx, top + dy), (right + dx, dy - top), (right, -top)]
    for corners, shade in ((roof, 0.12), (wall, 0.28)):
        axes.add_patch(Polygon(corners, facecolor=face, edgecolor="black", linewidth=0.7))
        axes.add_patch(Polygon(corners, facecolor="black", alpha=shade, linewidth=0))
    return front + dx, top + dy


def first_convolutions(network: nn.Module, num: int = 2) -> list[tuple[str, torch.Tensor]]:
    """Return name and weights (M, C, k, k) float32, on the CPU, of the first `num` convolutions of any network."""
    found = [module for module in network.modules() if isinstance(module, nn.Conv2d)][:num]
    return [(f"convolution {i}", module.weight.detach().float().cpu()) for i, module in enumerate(found, start=1)]


def start_weights(network: str, num_classes: int, image_size: int, init: Init, seed: int) -> nn.Module:
    """Return the network that a run of this seed started with; torch's random state is left as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_network(network, num_classes, image_size, init)


def moved(now: torch.Tensor, start: torch.Tensor) -> float:
    """Return how far weights have moved, as a share of the length of their start values; inf for other shapes."""
    if now.shape != start.shape:
        return math.inf
    return float((now - start).norm() / start.norm().clamp_min(1e-30))


def draw_filters(
    figures: FigureFiles,
    network_name: str,
    convolutions: list[tuple[str, torch.Tensor]],
    start: list[tuple[str, torch.Tensor]] | None = None,
) -> None:
    """Draw filters, one tile per map and input; each convolution is divided by its largest absolute weight.

    Args:
        figures: Collection that receives the figure.
        network_name: Name of the network, for the caption.
        convolutions: Name and weights (M, C, k, k) of each convolution.
        start: The same before training, if known; convolutions that have hardly changed since are named.
    """
    still = [
        f" {name.capitalize()} has hardly changed from its random start (by {moved(now, before):.0%} of its norm), so "
        "its pattern has no meaning."
        for (name, now), (_, before) in zip(convolutions, start or convolutions, strict=True)
        if start is not None and moved(now, before) < HARDLY_MOVED
    ]
    shown = [(name, weights[:MOST_MAPS, :MOST_INPUTS].numpy()) for name, weights in convolutions]
    mosaics = [_mosaic(weights) for _, weights in shown]
    ratios = [mosaic.shape[0] / mosaic.shape[1] for mosaic in mosaics]
    figure = Figure(figsize=(8, 1.3 + sum(6.2 * ratio + 0.35 for ratio in ratios)), layout="constrained")
    grid = figure.subplots(len(shown), 1, squeeze=False, height_ratios=ratios)[:, 0]
    notes = []
    for axes, mosaic, (name, weights), (_, full) in zip(grid, mosaics, shown, convolutions, strict=True):
        image = axes.imshow(mosaic, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        maps, inputs, kernel, _ = weights.shape
        largest = float(np.abs(full.numpy()).max())
        layout = "one tile per map" if inputs == 1 else "columns: maps; rows: their input maps"
        axes.set_title(f"{name}: {kernel} x {kernel} px, {layout}; 1 stands for a weight of {largest:.3g}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        cut = "" if full.shape[:2] == (maps, inputs) else f" (of {full.shape[0]} x {full.shape[1]})"
        notes.append(f"{name}: {maps} maps x {inputs} inputs{cut}")
        bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01, ticks=[-1, 0, 1])
        bar.ax.tick_params(labelsize=7)
    figures.add(
        "filters",
        figure,
        f"Filters of the first convolutions of {network_name}. {'; '.join(notes)}. Red is above zero, blue below; each "
        f"convolution is divided by its largest absolute weight.{''.join(still)}",
        pa.concat_tables(_filter_table(name, weights) for name, weights in shown),
    )


def _mosaic(weights: np.ndarray) -> np.ndarray:
    """Arrange filters as tiles, NaN in the gaps of one element; up to 16 tiles in a row if there is one input."""
    maps, inputs, kernel, _ = weights.shape
    scaled = weights / (np.abs(weights).max() or 1.0)
    if inputs == 1:
        columns = min(maps, 16)
        rows = -(-maps // columns)
        tiles = np.full((rows * columns, kernel, kernel), np.nan)
        tiles[:maps] = scaled[:, 0]
        tiles = tiles.reshape(rows, columns, kernel, kernel)
    else:
        tiles = scaled.transpose(1, 0, 2, 3)
    framed = np.full((*tiles.shape[:2], kernel + 1, kernel + 1), np.nan)
    framed[:, :, :kernel, :kernel] = tiles
    return framed.transpose(0, 2, 1, 3).reshape(tiles.shape[0] * (kernel + 1), -1)[:-1, :-1]


def _filter_table(name: str, weights: np.ndarray) -> pa.Table:
    """Return a table with one row per weight."""
    index = np.indices(weights.shape).reshape(4, -1)
    columns = dict(zip(("map", "input", "row", "column"), index, strict=True))
    return pa.table({"layer": [name] * weights.size, **columns, "weight": weights.ravel()})
