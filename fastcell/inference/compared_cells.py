"""Cells on which an exported classifier is compared with its run: cells of the run's data set, or simulated cells."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import yaml

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.border import border_median
from fastcell.ops.cpu.transform import transform_pool
from fastcell.ops.matrices import matrices
from fastcell.runs.run_folder import CONFIG_FILE
from fastcell.system.text import printable

NUM_CELLS = 1_000
"""Default number of compared cells."""


@dataclass(frozen=True)
class RawCells:
    """Raw cells for the comparison.

    Attributes:
        pixels: one (H, W) uint8 or uint16 array per cell.
        border: (N,) float32, grey level outside each cell.
        um_per_px: (N,) float32, NaN if unknown.
        origin: description of the cells for the user.
    """

    pixels: list[np.ndarray]
    border: np.ndarray
    um_per_px: np.ndarray
    origin: str


def prepare_images(cells: RawCells, preprocessing: Preprocessing) -> np.ndarray:
    """Return the images of the cells, (N, 1, S, S) float32, from the engine's preprocessing on the CPU."""
    size, count = preprocessing.image_size, len(cells.pixels)
    heights = np.array([pixels.shape[0] for pixels in cells.pixels], np.int32)
    widths = np.array([pixels.shape[1] for pixels in cells.pixels], np.int32)
    areas = heights.astype(np.int64) * widths
    zeros = np.zeros(count, np.float32)
    return transform_pool(
        np.concatenate([pixels.ravel() for pixels in cells.pixels]),
        np.cumsum(areas) - areas,
        heights,
        widths,
        matrices(heights, widths, size, preprocessing.fit, None, preprocessing.scale_um_per_px, cells.um_per_px),
        np.full(count, np.nan, np.float32) if preprocessing.fit == "stretch" else cells.border,
        zeros,
        zeros,
        zeros.astype(np.uint64),
        np.empty((count, 1, size, size), np.float32),
        preprocessing.normalization,
        antialias=preprocessing.antialias,
    )


def data_set_cells(manifest: Manifest, num_cells: int, depth: int) -> RawCells:
    """Return up to `num_cells` cells, evenly spread over a data set, in the bit depth of the network."""
    rows = np.unique(np.linspace(0, len(manifest) - 1, num_cells).round().astype(np.int64))
    pixels = list(read_cells(manifest, rows, depth=depth))
    border = manifest.column("border_median")[rows].astype(np.float32)
    pitch = manifest.column("um_per_px")[rows].astype(np.float32)
    return RawCells(pixels, border, pitch, f"{len(rows):,} cells of {printable(manifest.place)}")


def simulated_cells(num_cells: int, depth: int, um_per_px: float | None = None) -> RawCells:
    """Return `num_cells` simulated cells. With `depth` 16, grey levels are drawn from the 257 levels they represent."""
    from fastcell.simulator.simulate import simulate

    pixels = [np.ascontiguousarray(cell.pixels) for cell in islice(simulate(num_cells, seed=0), num_cells)]
    border = np.array([border_median(cell) for cell in pixels], np.float32)
    if depth == 16:
        rng = np.random.default_rng(0)
        pixels = [(cell.astype(np.int64) * 257 + rng.integers(-128, 129, cell.shape)).clip(0, 65535) for cell in pixels]
        pixels = [cell.astype(np.uint16) for cell in pixels]
    pitch = np.full(num_cells, np.nan if um_per_px is None else um_per_px, np.float32)
    return RawCells(pixels, border, pitch, f"{num_cells:,} simulated cells")


def manifest_of_run(run: Path, data: str | Path | None) -> Manifest | None:
    """Return the data set for the comparison; None if the data set of the run no longer exists."""
    if data is not None:
        return Manifest.open(data)
    folder = run if run.is_dir() else run.parent
    try:
        values = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        path = values["data"]["path"]
        return Manifest.open(path) if isinstance(path, str) else None
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError, DataError):
        return None
