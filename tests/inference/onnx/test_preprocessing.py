"""Preprocessing as ONNX operators against the engine's own, by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from fixtures.raw_cells import make_cells

from fastcell.inference.onnx import export
from fastcell.inference.onnx import graph as onnx_graph
from fastcell.inference.onnx.preprocessing import GraphBuilder, add_preprocessing, source_px_per_output_px
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.constants import FITS, MODES


@pytest.mark.parametrize(("depth", "antialias"), [(8, False), (8, True), (16, True)])
@pytest.mark.parametrize("normalization", MODES)
@pytest.mark.parametrize(("fit", "scale"), [*((fit, None) for fit in FITS), ("scale", 0.4), ("scale", 0.13)])
def test_images_are_the_engines(fit: str, scale: float | None, normalization: str, antialias: bool, depth: int) -> None:
    """But for float32 rounding of grey levels up to 255, which standardising a filtered, flat cell magnifies."""
    preprocessing = Preprocessing(
        32, fit, normalization, antialias=antialias, scale_um_per_px=scale, window=None, depth=depth
    )
    cells = make_cells(depth, 0.25)
    graph = GraphBuilder()
    step = source_px_per_output_px(preprocessing, 0.25)
    add_preprocessing(graph, preprocessing, step)
    network = onnx.helper.make_model(
        onnx.helper.make_graph([], "none", [], []), opset_imports=[onnx.helper.make_opsetid("", onnx_graph.OPSET)]
    )
    network.ir_version = 10
    session = onnxruntime.InferenceSession(graph.model(preprocessing, network).SerializeToString())
    found = np.concatenate([session.run(None, {"cell": pixels[None, None]})[0] for pixels in cells.pixels])
    expected = export.prepare_images(cells, preprocessing)
    varied = np.array([cell.size > 1 for cell in cells.pixels])  # one level has no contrast: rounding, standardised
    if normalization != "standardize":
        varied[:] = True
    tolerance = {"divide": 5e-6, "subtract": 2e-3, "standardize": 3e-4}[normalization]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[varied], expected[varied], atol=tolerance, rtol=2e-6)


def test_a_constant_is_stored_once() -> None:
    graph = GraphBuilder()
    assert graph.constant([0]) == graph.constant([0])
    assert graph.constant([0]) != graph.constant([1])
    assert graph.constant(1) != graph.constant([1])
    assert graph.constant([0]) != graph.constant([0], np.float32)


def test_source_pixels_of_an_output_pixel() -> None:
    assert source_px_per_output_px(Preprocessing(), None) == 1
    assert source_px_per_output_px(Preprocessing(fit="scale"), None) == 1
    assert source_px_per_output_px(Preprocessing(fit="scale", scale_um_per_px=0.5), 0.25) == 2
