"""Preprocessing of a raw cell as ONNX operators: the work of `fastcell.ops.cpu.transform` without augmentation.

Without a rotation the affine map works on each axis by itself, so the square is ``Wy (cell - pivot) Wx^T + pivot`` with
one matrix of tap weights per axis: the hat of linear interpolation, or the triangle of the antialias filter. The pivot
is the grey level outside of the cell, or any level of the cell where its edge continues; a cell of one level gives that
level exactly.

Source points are whole numbers of a fraction of a pixel, so that no size of a cell makes them inexact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastcell.errors import invalid
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.constants import EPS
from fastcell.system.optional_packages import require

INPUT = "cell"
_PIXEL_FRACTIONS = 1 << 20  # of a source point with fit scale, whose pixel size is no ratio of whole numbers


def source_px_per_output_px(preprocessing: Preprocessing, um_per_px: float | None) -> float:
    """Of ``fit="scale"``; the other fits take it from the size of the cell."""
    scale = preprocessing.scale_um_per_px
    if preprocessing.fit != "scale" or scale is None:
        return 1.0
    if um_per_px is None:
        raise invalid(
            "--um-per-px",
            f"given for a model that sees {scale:g} micrometres per pixel (fit scale)",
            None,
            "A graph serves one instrument: say how many micrometres one of its pixels is",
        )
    if not (math.isfinite(um_per_px) and um_per_px > 0):
        raise invalid("--um-per-px", "above 0", um_per_px, "Give micrometres per pixel of the cells")
    return scale / um_per_px


class GraphBuilder:
    """Collects nodes; every method gives the name of a value."""

    def __init__(self) -> None:
        self._onnx = require("onnx", "onnx")
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Any] = {}

    def constant(self, value: Any, dtype: type = np.int64) -> str:
        array: np.ndarray = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"preprocess_constant_{len(self._constants)}"
            self._constants[key] = self._onnx.numpy_helper.from_array(array, name)
        return str(self._constants[key].name)

    def op(self, kind: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes: Any) -> str:
        first = name or f"preprocess_{len(self._nodes)}_{kind}"
        names = [first, *(f"{first}_{number}" for number in range(1, outputs))]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), names, name=first, **attributes))
        return first

    def cast(self, value: str, dtype: type) -> str:
        return self.op("Cast", value, to=self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def slice(self, value: str, start: str, end: str, axis: int) -> str:
        """`value[start:end]` along an axis; both ends are of one element."""
        return self.op("Slice", value, start, end, self.constant([axis]))

    def model(self, preprocessing: Preprocessing, network: Any) -> Any:
        """The model from ``cell`` to ``image``, of the versions of `network`, which is to follow it."""
        onnx, size = self._onnx, preprocessing.image_size
        kind = onnx.TensorProto.UINT8 if preprocessing.depth == 8 else onnx.TensorProto.UINT16
        cell = onnx.helper.make_tensor_value_info(INPUT, kind, [1, 1, "height", "width"])
        image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 1, size, size])
        used = {name for node in self._nodes for name in node.input}
        constants = [constant for constant in self._constants.values() if constant.name in used]
        graph = onnx.helper.make_graph(self._nodes, "preprocess", [cell], [image], constants)
        return onnx.helper.make_model(graph, opset_imports=network.opset_import, ir_version=network.ir_version)


def add_preprocessing(graph: GraphBuilder, preprocessing: Preprocessing, scale: float) -> None:
    """Nodes from ``cell`` to ``image``."""
    first, second = graph.constant([0]), graph.constant([1])
    cell = graph.op("Squeeze", INPUT, graph.constant([0, 1]))
    shape = graph.op("Shape", cell)
    height, width = graph.slice(shape, first, second, 0), graph.slice(shape, second, graph.constant([2]), 0)
    grey = graph.cast(cell, np.float32)
    if preprocessing.depth == 16:
        grey = graph.op("Div", grey, graph.constant(257, np.float32))
    if preprocessing.fit == "stretch":
        pivot = graph.slice(graph.slice(grey, first, second, 0), first, second, 1)
    else:
        pivot = _border_median(graph, grey, height, width)
    longest = graph.op("Max", height, width)
    down = _tap_weights(graph, height, longest, preprocessing, scale)
    across = _tap_weights(graph, width, longest, preprocessing, scale)
    rows = graph.op("MatMul", down, graph.op("Sub", grey, pivot))
    square = graph.op("MatMul", rows, graph.op("Transpose", across, perm=[1, 0]))
    image = _normalize(graph, square, pivot, preprocessing.normalization)
    graph.op("Unsqueeze", image, graph.constant([0, 1]), name="image")


def _tap_weights(graph: GraphBuilder, length: str, longest: str, preprocessing: Preprocessing, scale: float) -> str:
    """(S, length) float32: the share of each source pixel in each output pixel of one axis.

    The centre of output pixel x lies `centre` / `unit` pixels from that of source pixel 0; rows sum to less than 1
    where the rest lies outside of the cell.
    """
    size, fit = preprocessing.image_size, preprocessing.fit
    odd = 2 * np.arange(size) + 1
    if fit == "scale":
        unit = _PIXEL_FRACTIONS
        start = np.rint(((odd - size) / 2 * scale - 0.5) * unit)
        centre = graph.op("Add", graph.op("Mul", length, graph.constant(unit // 2)), graph.constant(start))
        span = graph.constant([np.rint(scale * unit)])
    else:  # in units of half an output pixel's share
        unit = 2 * size
        steps, span = (odd, length) if fit == "stretch" else (odd - size, longest)
        centre = graph.op("Sub", graph.op("Mul", span, graph.constant(steps)), graph.constant(size))
        if fit == "contain":
            centre = graph.op("Add", centre, graph.op("Mul", length, graph.constant(size)))
        span = graph.op("Mul", span, graph.constant([2]))
    zero, one, pitch, columns = graph.constant(0), graph.constant(1), graph.constant(unit), graph.constant([1])
    if fit == "stretch":
        last = graph.op("Mul", graph.op("Sub", length, one), pitch)
        centre = graph.op("Min", graph.op("Max", centre, zero), last)
    reach = graph.op("Max", span, pitch) if preprocessing.antialias else graph.constant([unit])
    centre = graph.op("Unsqueeze", centre, columns)

    def triangles(middle: str, begin: str, end: str) -> str:
        places = graph.op("Mul", graph.op("Range", begin, end, one), pitch)
        near = graph.op("Sub", reach, graph.op("Abs", graph.op("Sub", middle, places)))
        return graph.cast(graph.op("Max", near, zero), np.float32)

    weights = triangles(centre, zero, graph.op("Squeeze", length))
    if not preprocessing.antialias:
        return graph.op("Div", weights, graph.cast(reach, np.float32))
    every = weights
    if fit != "stretch":  # what lies outside of the cell counts too
        far = graph.op("Add", graph.op("Squeeze", graph.op("Div", reach, pitch)), graph.constant(2))
        within = graph.op("Mod", centre, pitch)
        every = triangles(within, graph.op("Neg", far), graph.op("Add", far, one))
    return graph.op("Div", weights, graph.op("ReduceSum", every, columns, keepdims=1))


def _border_median(graph: GraphBuilder, grey: str, height: str, width: str) -> str:
    """(1,) float32: `fastcell.ops.border.border_median` in 8-bit levels, as nodes of the graph."""
    one, flat = graph.constant([1]), graph.constant([-1])
    last_row = graph.op("Max", graph.op("Sub", height, one), one)
    last_column = graph.op("Max", graph.op("Sub", width, one), one)
    inner = graph.slice(grey, one, last_row, 0)
    sides = (
        graph.slice(grey, graph.constant([0]), one, 0),
        graph.slice(grey, last_row, height, 0),
        graph.slice(inner, graph.constant([0]), one, 1),
        graph.slice(inner, last_column, width, 1),
    )
    frame = graph.op("Concat", *(graph.op("Reshape", side, flat) for side in sides), axis=0)
    count = graph.op("Shape", frame)
    middle = graph.op("Div", count, graph.constant([2]))
    below = graph.op("Div", graph.op("Sub", count, one), graph.constant([2]))
    levels = graph.op("TopK", frame, graph.op("Add", middle, one), outputs=2, largest=0)
    pair = [graph.op("Round", graph.op("Gather", levels, place, axis=0)) for place in (below, middle)]
    return graph.op("Mul", graph.op("Add", *pair), graph.constant(0.5, np.float32))


def _normalize(graph: GraphBuilder, square: str, pivot: str, mode: str) -> str:
    """By the mean of (S, S) float32 `square`, the image less the pivot (see `fastcell.ops.constants.MODES`)."""
    axes, eps = graph.constant([0, 1]), graph.constant(EPS, np.float32)
    mean = graph.op("ReduceMean", square, axes, keepdims=1)
    if mode == "divide":
        least = graph.op("Max", graph.op("Add", mean, pivot), eps)
        return graph.op("Div", graph.op("Add", square, pivot), least)
    centred = graph.op("Sub", square, mean)
    if mode == "subtract":
        return centred
    variance = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes, keepdims=1)
    return graph.op("Div", centred, graph.op("Max", graph.op("Sqrt", variance), eps))
