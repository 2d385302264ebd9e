"""Preprocessing as ONNX operators against the engine's own, by ONNX Runtime."""

import functools
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from fixtures.raw_cells import make_cells

from fastcell.inference import compared_cells
from fastcell.inference.onnx import graph as onnx_graph
from fastcell.inference.onnx.exporter import OPSET
from fastcell.inference.onnx.preprocessing import CellPreprocessing, normalize_square, source_px_per_output_px
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.constants import FITS, MODES

SCALES = [*((fit, None) for fit in FITS), ("scale", 0.4), ("scale", 0.13)]
DEPTHS = [(8, False), (8, True), (16, True)]
#: Of the combinations of SCALES and DEPTHS, those of a default run; the graph of all of them takes 20 s.
FEW = [("stretch", None, 8, False), ("contain", None, 8, True), ("scale", 0.13, 8, True), ("scale", None, 16, True)]


class Every(torch.nn.Module):
    """Several preprocessings of a depth side by side, since an export takes a second."""

    def __init__(self, depth, few):
        super().__init__()
        self.kinds = [
            Preprocessing(32, fit, antialias=antialias, scale_um_per_px=scale, depth=depth)
            for fit, scale in SCALES
            for bits, antialias in DEPTHS
            if bits == depth and few == ((fit, scale, bits, antialias) in FEW)
        ]
        fronts = (CellPreprocessing(kind, source_px_per_output_px(kind, 0.25)) for kind in self.kinds)
        self.fronts = torch.nn.ModuleList(fronts)

    def forward(self, cell):
        squares = [front.square(cell) for front in self.fronts]
        return tuple(normalize_square(*square, mode)[:, None] for square in squares for mode in MODES)


@functools.cache
def images_by_graph(depth, few):
    every = Every(depth, few).eval()
    program = torch.onnx.export(
        every,
        (onnx_graph.example_cell(depth),),
        input_names=[onnx_graph.INPUT],
        dynamic_shapes={onnx_graph.INPUT: onnx_graph.SIDES},
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    cells = [session.run(None, {"cell": pixels[None, None]}) for pixels in make_cells(depth, 0.25).pixels]
    images = (np.concatenate(images) for images in zip(*cells, strict=True))
    kinds = (replace(kind, normalization=mode) for kind in every.kinds for mode in MODES)
    return dict(zip(kinds, images, strict=True))


@pytest.mark.parametrize("normalization", MODES)
@pytest.mark.parametrize(
    ("fit", "scale", "depth", "antialias"),
    [
        pytest.param(*one, *depth, marks=() if (*one, *depth) in FEW else pytest.mark.slow)
        for one in SCALES
        for depth in DEPTHS
    ],
)
def test_images_are_the_engines(fit, scale, normalization, antialias, depth):
    """But for float32 rounding of grey levels up to 255, which standardising a filtered, flat cell magnifies."""
    preprocessing = Preprocessing(
        32, fit, normalization, antialias=antialias, scale_um_per_px=scale, window=None, depth=depth
    )
    cells = make_cells(depth, 0.25)
    found = images_by_graph(depth, (fit, scale, depth, antialias) in FEW)[preprocessing]
    expected = compared_cells.prepare_images(cells, preprocessing)
    varied = np.array([cell.size > 1 for cell in cells.pixels])  # one level has no contrast: rounding, standardised
    if normalization != "standardize":
        varied[:] = True
    tolerance = {"divide": 5e-6, "subtract": 2e-3, "standardize": 3e-4}[normalization]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[varied], expected[varied], atol=tolerance, rtol=2e-6)


def test_source_pixels_of_an_output_pixel():
    assert source_px_per_output_px(Preprocessing(), None) == 1
    assert source_px_per_output_px(Preprocessing(fit="scale"), None) == 1
    assert source_px_per_output_px(Preprocessing(fit="scale", scale_um_per_px=0.5), 0.25) == 2
