"""Export a classifier as an ONNX file with raw cells as input, and check it against torch before it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError, invalid
from fastcell.inference.probabilities import class_probabilities
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.border import border_median
from fastcell.ops.cpu.transform import transform_pool
from fastcell.ops.matrices import matrices
from fastcell.runs.run_folder import CONFIG_FILE, find_checkpoint
from fastcell.storage.places import check_output_file
from fastcell.storage.whole_files import replace_file
from fastcell.system.optional_packages import require
from fastcell.system.text import printable

TOLERANCE = 1e-4
"""Largest permitted difference between a probability of the file and of torch."""

NUM_CELLS = 1_000

_CHUNK = 256


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


@dataclass(frozen=True)
class GraphDifference:
    """Difference between a graph and torch.

    Attributes:
        probability: largest absolute difference of a probability.
        num_same: number of cells with the same predicted class.
        num_cells: number of compared cells.
    """

    probability: float
    num_same: int
    num_cells: int


def export(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    num_cells: int = NUM_CELLS,
    um_per_px: float | None = None,
    tta: bool = False,
    trust: Sequence[str] = (),
) -> tuple[GraphDifference, RawCells]:
    """Write the classifier of a run as ONNX, provided that it equals torch on `num_cells` cells.

    Args:
        run: run folder or checkpoint.
        out: file to write; it appears only after the check.
        data: data set of the compared cells; None for that of the run if it exists, else for simulated cells.
        num_cells: number of cells to compare.
        um_per_px: micrometres per pixel of the cells that the graph will receive; None for the value of the data set
            if all its cells share one.
        tta: include the mean over the four flips in the graph.
        trust: packages whose code a run with a network of the user's own may import.

    Returns:
        The difference, and the compared cells.

    Raises:
        ArgumentError: an argument breaks its rule.
        DataError: a file cannot be read, or the graph differs from torch by more than `TOLERANCE`.
        FastcellError: a package is missing.
    """
    if num_cells < 1:
        raise invalid("--check", "at least 1 cell", num_cells, f"Leave it out for {NUM_CELLS:,}")
    if um_per_px is not None and not 0 < um_per_px < np.inf:
        raise invalid("--um-per-px", "a positive number of micrometres", um_per_px, "Leave it out for that of the data")
    if out.suffix != ".onnx":
        raise invalid("OUT", "a file name that ends in .onnx", str(out), "Add the ending")
    check_output_file("OUT", out)
    require("onnxruntime", "onnx")
    from fastcell.inference.onnx import graph as onnx_graph
    from fastcell.runs.checkpoint import load_classifier

    model = load_classifier(find_checkpoint(run), trust)
    model.hparams["tta"] = tta
    preprocessing = Preprocessing.from_dict(model.preprocessing)
    if um_per_px is not None and preprocessing.fit != "scale":
        rule = f"left out for a run with --data.fit {preprocessing.fit}, whose cells have no scale"
        raise invalid("--um-per-px", rule, um_per_px, "Export without it")
    manifest = _manifest_of(run, data)
    if um_per_px is None and manifest is not None:
        um_per_px = manifest.info.um_per_px
    graph = onnx_graph.build_graph(model, um_per_px)
    cells = _cells_of(manifest, num_cells, preprocessing, um_per_px)

    def write(path: Path) -> None:
        onnx_graph.save_graph(graph, path)
        compared.append(compare_with_torch(path, model, cells))
        if not compared[0].probability <= TOLERANCE:
            raise DataError(
                f"{out} is not written: its probabilities must equal those of torch within {TOLERANCE:g}, got a "
                f"difference of {compared[0].probability:.2g} on {cells.origin}. "
                "Use the checkpoint with fastcell predict."
            )

    compared: list[GraphDifference] = []
    replace_file(out, write)
    return compared[0], cells


def compare_with_torch(path: Path, model: Any, cells: RawCells) -> GraphDifference:
    """Compare ONNX Runtime on a file with torch and the engine's own preprocessing.

    Args:
        path: file of the graph.
        model: `CellModule` from which the graph was made.
        cells: raw cells.
    """
    from fastcell.inference.backend_torch import TorchBackend

    runtime = require("onnxruntime", "onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = np.concatenate([session.run(None, {"cell": pixels[None, None]})[0] for pixels in cells.pixels])
    images = prepare_images(cells, Preprocessing.from_dict(model.preprocessing))
    batches = (images[begin : begin + _CHUNK] for begin in range(0, len(images), _CHUNK))
    expected = class_probabilities(TorchBackend.of_module(model), batches)
    same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return GraphDifference(float(np.abs(found - expected).max()), same, len(found))


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
    """Return up to `num_cells` cells, evenly spread over a data set, with 8 or 16 bits as for the network."""
    rows = np.unique(np.linspace(0, len(manifest) - 1, num_cells).round().astype(np.int64))
    pixels = list(read_cells(manifest, rows, depth=depth))
    border = manifest.column("border_median")[rows].astype(np.float32)
    pitch = manifest.column("um_per_px")[rows].astype(np.float32)
    return RawCells(pixels, border, pitch, f"{len(rows):,} cells of {printable(manifest.path)}")


def simulated_cells(num_cells: int, depth: int, um_per_px: float | None = None) -> RawCells:
    """Return `num_cells` simulated cells; with `depth` 16, draw each level from the 257 levels that it represents."""
    from fastcell.simulator.simulate import simulate

    pixels = [np.ascontiguousarray(cell.pixels) for cell in islice(simulate(num_cells, seed=0), num_cells)]
    border = np.array([border_median(cell) for cell in pixels], np.float32)
    if depth == 16:
        rng = np.random.default_rng(0)
        pixels = [(cell.astype(np.int64) * 257 + rng.integers(-128, 129, cell.shape)).clip(0, 65535) for cell in pixels]
        pixels = [cell.astype(np.uint16) for cell in pixels]
    pitch = np.full(num_cells, np.nan if um_per_px is None else um_per_px, np.float32)
    return RawCells(pixels, border, pitch, f"{num_cells:,} simulated cells")


def _manifest_of(run: Path, data: Path | None) -> Manifest | None:
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


def _cells_of(
    manifest: Manifest | None, num_cells: int, preprocessing: Preprocessing, um_per_px: float | None
) -> RawCells:
    depth = preprocessing.depth
    cells = (
        simulated_cells(num_cells, depth, um_per_px) if manifest is None else data_set_cells(manifest, num_cells, depth)
    )
    if preprocessing.fit == "scale" and preprocessing.scale_um_per_px is not None:
        _check_pitch(cells.um_per_px, um_per_px)
    # A cell of one grey level has no contrast: after standardising, only rounding errors remain.
    good = np.array([bool((pixels != pixels.flat[0]).any()) for pixels in cells.pixels])
    if not good.any():
        raise DataError(f"{cells.origin} have a single grey level each. Name other cells with --data.")
    kept = [pixels for pixels, use in zip(cells.pixels, good, strict=True) if use]
    return RawCells(kept, cells.border[good], cells.um_per_px[good], cells.origin)


def _check_pitch(found: np.ndarray, um_per_px: float | None) -> None:
    assert um_per_px is not None  # required by build_graph
    if not np.allclose(found, um_per_px, rtol=1e-6):
        raise invalid(
            "--um-per-px",
            f"that of the cells compared ({np.nanmin(found, initial=np.inf):g} to {np.nanmax(found, initial=0):g})",
            um_per_px,
            "Name a data set of the same instrument with --data",
        )
