"""The graph of preprocessing against the engine's own, and what is written beside it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from fastcell.dataset.cell_hashes import measure
from fastcell.inference.onnx import export
from fastcell.inference.onnx import graph as onnx_graph
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.modes import FITS, MODES

SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (2, 7), (30, 41), (64, 64), (150, 33), (200, 301), (5, 700)]


def make_cells(depth: int = 8, um_per_px: float = np.nan) -> export.Cells:
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, size).astype(np.uint8) for size in SIZES]
    border = np.array([measure(cell)[2] for cell in pixels], np.float32)
    if depth == 16:
        pixels = [cell.astype(np.uint16) * np.uint16(257) for cell in pixels]
    return export.Cells(pixels, border, np.full(len(SIZES), um_per_px, np.float32), "random cells")


@pytest.mark.parametrize(("depth", "antialias"), [(8, False), (8, True), (16, True)])
@pytest.mark.parametrize("normalization", MODES)
@pytest.mark.parametrize(("fit", "scale"), [*((fit, None) for fit in FITS), ("scale", 0.4), ("scale", 0.13)])
def test_images_are_the_engines(fit: str, scale: float | None, normalization: str, antialias: bool, depth: int) -> None:
    """But for float32 rounding of grey levels up to 255, which standardising a filtered, flat cell magnifies."""
    preprocessing = Preprocessing(
        32, fit, normalization, antialias=antialias, scale_um_per_px=scale, window=None, depth=depth
    )
    cells = make_cells(depth, 0.25)
    graph = onnx_graph._Graph()
    step = onnx_graph._source_px_per_output_px(preprocessing, 0.25)
    onnx_graph._preprocess(graph, preprocessing, step)
    network = onnx.helper.make_model(
        onnx.helper.make_graph([], "none", [], []), opset_imports=[onnx.helper.make_opsetid("", onnx_graph.OPSET)]
    )
    network.ir_version = 10
    session = onnxruntime.InferenceSession(graph.model(preprocessing, network).SerializeToString())
    found = np.concatenate([session.run(None, {"cell": pixels[None, None]})[0] for pixels in cells.pixels])
    expected = export.prepare(cells, preprocessing)
    varied = np.array([cell.size > 1 for cell in cells.pixels])  # one level has no contrast: rounding, standardised
    if normalization != "standardize":
        varied[:] = True
    tolerance = {"divide": 5e-6, "subtract": 2e-3, "standardize": 3e-4}[normalization]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[varied], expected[varied], atol=tolerance, rtol=2e-6)
