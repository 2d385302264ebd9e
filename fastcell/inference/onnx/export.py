"""Export a classifier as an ONNX file with raw cells as input, and check it against torch before it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError, invalid
from fastcell.inference.compared_cells import (
    NUM_CELLS,
    RawCells,
    data_set_cells,
    manifest_of_run,
    prepare_images,
    simulated_cells,
)
from fastcell.inference.confidence import Confidence, calibrated
from fastcell.inference.probabilities import class_probabilities
from fastcell.loading.preprocessing import Preprocessing
from fastcell.runs.run_folder import find_checkpoint
from fastcell.storage.places import check_output_file
from fastcell.storage.whole_files import replace_file
from fastcell.system.optional_packages import require

TOLERANCE = 1e-4
"""Largest permitted difference between a probability of the file and of torch."""

_CHUNK = 256


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
    data: str | Path | None = None,
    num_cells: int = NUM_CELLS,
    um_per_px: float | None = None,
    tta: bool | None = None,
    trust: Sequence[str] = (),
) -> tuple[GraphDifference, RawCells]:
    """Write the classifier of a run as ONNX, after checking that it agrees with torch on `num_cells` cells.

    Args:
        run: run folder or checkpoint.
        out: file to write. It is created only if the check succeeds.
        data: data set of the compared cells; None for the data set of the run, or simulated cells if that is missing.
        num_cells: number of cells to compare.
        um_per_px: micrometres per pixel of the cells that the graph will receive; None for the pixel size of the data
            set if all its cells have the same.
        tta: include the mean over the four flips in the graph; None as in training.
        trust: packages whose code a run with a user-defined network may import.

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
    from fastcell.runs.checkpoint import load_classifier, read_checkpoint

    checkpoint = find_checkpoint(run)
    model = load_classifier(checkpoint, trust)
    if tta is not None:
        model.hparams["tta"] = tta
    confidence = Confidence.from_checkpoint(read_checkpoint(checkpoint))
    temperature = 1.0 if confidence is None else confidence.temperature
    preprocessing = Preprocessing.from_dict(model.preprocessing)
    if um_per_px is not None and preprocessing.fit != "scale":
        rule = f"left out for a run with --data.fit {preprocessing.fit}, whose cells have no scale"
        raise invalid("--um-per-px", rule, um_per_px, "Export without it")
    manifest = manifest_of_run(run, data)
    if um_per_px is None and manifest is not None:
        um_per_px = manifest.info.um_per_px
    graph = onnx_graph.build_graph(model, um_per_px, temperature)
    cells = _cells_of(manifest, num_cells, preprocessing, um_per_px)

    def write(path: Path) -> None:
        onnx_graph.save_graph(graph, path)
        compared.append(compare_with_torch(path, model, cells, temperature))
        if not compared[0].probability <= TOLERANCE:
            raise DataError(
                f"{out} is not written: its probabilities must equal those of torch within {TOLERANCE:g}, got a "
                f"difference of {compared[0].probability:.2g} on {cells.origin}. "
                "Use the checkpoint with fastcell predict."
            )

    compared: list[GraphDifference] = []
    replace_file(out, write)
    return compared[0], cells


def compare_with_torch(path: Path, model: Any, cells: RawCells, temperature: float = 1.0) -> GraphDifference:
    """Compare ONNX Runtime on a file with torch and the engine's own preprocessing.

    Args:
        path: file of the graph.
        model: `CellModule` from which the graph was made.
        cells: raw cells.
        temperature: temperature of the probabilities of the graph.
    """
    from fastcell.inference.backend_torch import TorchBackend

    runtime = require("onnxruntime", "onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = np.concatenate([session.run(None, {"cell": pixels[None, None]})[0] for pixels in cells.pixels])
    images = prepare_images(cells, Preprocessing.from_dict(model.preprocessing))
    batches = (images[begin : begin + _CHUNK] for begin in range(0, len(images), _CHUNK))
    expected = calibrated(class_probabilities(TorchBackend.of_module(model), batches), temperature)
    same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return GraphDifference(float(np.abs(found - expected).max()), same, len(found))


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
