"""A classifier as one ONNX graph: a raw cell of any size in, class probabilities out.

Torch's exporter writes both the network and what happens to a cell before it, `fastcell.inference.onnx.preprocessing`.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from fastcell import __version__
from fastcell.errors import DataError
from fastcell.inference.onnx.preprocessing import CellPreprocessing, source_px_per_output_px
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.system.optional_packages import require

INPUT = "cell"
OUTPUT = "probabilities"
OPSET = 18
SIDES = {2: torch.export.Dim("height", min=1), 3: torch.export.Dim("width", min=1)}
"""Axes of the input that vary."""


def build_graph(model: CellModule, um_per_px: float | None = None) -> Any:
    """The graph (`onnx.ModelProto`) of a classifier.

    Its input ``cell`` is (1, 1, H, W) uint8 grey levels, H and W >= 1 (uint16 with `Preprocessing.depth` 16, where
    65535 is grey level 255); its output ``probabilities`` (1, K) float32. Classes, preprocessing and version are in its
    ``metadata_props``.

    Args:
        model: on the CPU, in evaluation mode; as it evaluates, so `tta` is in the graph too.
        um_per_px: micrometres per pixel of the cells, for ``fit="scale"`` with `scale_um_per_px`.

    Raises:
        ArgumentError: `um_per_px` is needed and not there.
        DataError: the network has parts that ONNX or torch's exporter does not know.
    """
    onnx = require("onnx", "onnx")
    preprocessing = Preprocessing.from_dict(model.preprocessing)
    front = CellPreprocessing(preprocessing, source_px_per_output_px(preprocessing, um_per_px))
    whole = _export(model, front)
    _forget_origin(whole)
    onnx.helper.set_model_props(whole, _properties(model, preprocessing, um_per_px))
    whole.producer_name, whole.producer_version = "fastcell", __version__
    onnx.checker.check_model(whole, full_check=True)
    return whole


class _RawClassifier(torch.nn.Module):
    """From a raw cell to probabilities (1, K)."""

    def __init__(self, front: CellPreprocessing, model: CellModule) -> None:
        super().__init__()
        self.front = front
        self.model = model

    def forward(self, cell: torch.Tensor) -> torch.Tensor:
        return self.model.predict_probabilities(self.front(cell))


def _export(model: CellModule, front: CellPreprocessing) -> Any:
    """The graph as torch's exporter makes it."""
    require("onnxscript", "onnx")
    model.hparams["channels_last"] = False
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    remarks = logging.getLogger("torch.onnx")
    before = remarks.level
    remarks.setLevel(logging.ERROR)  # it tells of packages that nothing here uses
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _RawClassifier(front, model).eval(),
                (example_cell(front.preprocessing.depth),),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={INPUT: SIDES},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"network {model.hparams['network']!r} cannot be written as ONNX ({reason}). "
            "Use it with fastcell predict, or train cellnet."
        ) from error
    finally:
        remarks.setLevel(before)
    assert program is not None
    return program.model_proto


def example_cell(depth: int) -> torch.Tensor:
    """A cell to export with, of sides that differ from each other."""
    return torch.zeros(1, 1, 7, 11, dtype=torch.uint8 if depth == 8 else torch.uint16)


def _forget_origin(model: Any) -> None:
    """Removes what the exporter notes of its work, which has paths of this machine in it, and doubled versions."""
    graph = model.graph
    parts = (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer)
    for part in (*parts, *model.functions):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    versions = {entry.domain: entry for entry in model.opset_import}
    kept = list(versions.values())
    del model.opset_import[:]
    model.opset_import.extend(kept)
    graph.name = "fastcell"


def _properties(model: CellModule, preprocessing: Preprocessing, um_per_px: float | None) -> dict[str, str]:
    low, high = preprocessing.window or (0, 65535)
    kind = "uint8 grey levels"
    if preprocessing.depth == 16:
        kind = f"uint16, where {low:g} of the source is 0 and {high:g} is 65535"
    elif preprocessing.window is not None:
        kind = f"uint8, where {low:g} of a 16-bit source is 0 and {high:g} is 255, rounded to nearest"
    return {
        "fastcell_version": __version__,
        "classes": json.dumps(model.classes, ensure_ascii=False),
        "preprocessing": json.dumps(preprocessing.to_dict()),
        "um_per_px": "" if um_per_px is None else repr(um_per_px),
        "network": str(model.hparams["network"]),
        "input": f"{INPUT}: (1, 1, height, width) {kind}",
        "output": f"{OUTPUT}: (1, {len(model.classes)}) float32, in the order of classes",
    }


def save_graph(model: Any, path: Path) -> None:
    """Write the graph to a file; it takes at most 2 GiB, the limit of ONNX files in one piece."""
    require("onnx", "onnx").save_model(model, str(path))
