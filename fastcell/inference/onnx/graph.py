"""ONNX graph of a classifier: from a raw cell of any size to class probabilities.

The exporter of torch writes both the network and its preprocessing (`fastcell.inference.onnx.preprocessing`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from fastcell import __version__
from fastcell.inference.onnx.exporter import export_graph, num_features
from fastcell.inference.onnx.preprocessing import CellPreprocessing, source_px_per_output_px
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.stats.calibration import LEAST_PROBABILITY
from fastcell.system.optional_packages import require

INPUT = "cell"
OUTPUT, FEATURES = "probabilities", "features"
SIDES = {0: torch.export.Dim("batch", min=1), 2: torch.export.Dim("height", min=1), 3: torch.export.Dim("width", min=1)}
"""Axes of the input with variable length; the cells of a batch have one size."""


def build_graph(model: CellModule, um_per_px: float | None = None, temperature: float = 1.0) -> Any:
    """Return the graph (`onnx.ModelProto`) of a classifier.

    The input ``cell`` is (N, 1, H, W) uint8 grey levels of N cells of one size; N, H and W >= 1. With
    `Preprocessing.depth` 16 it is uint16, and 65535 corresponds to grey level 255. The outputs are ``probabilities``
    (N, K) float32, as ``fastcell predict`` gives them, and, if the network has penultimate activations, ``features``
    (N, F) float32. ``metadata_props`` holds classes, preprocessing and version.

    Args:
        model: model on the CPU, in evaluation mode. The graph includes `tta` if the model uses it.
        um_per_px: micrometres per pixel of the cells, for ``fit="scale"`` with `scale_um_per_px`.
        temperature: temperature of the probabilities; 1 leaves those of the network.

    Raises:
        ArgumentError: `um_per_px` is required but missing.
        DataError: the network has parts that ONNX or the exporter of torch does not support.
    """
    onnx = require("onnx", "onnx")
    preprocessing = Preprocessing.from_dict(model.preprocessing)
    front = CellPreprocessing(preprocessing, source_px_per_output_px(preprocessing, um_per_px))
    module = _RawClassifier(front, model, temperature)
    outputs = [OUTPUT, FEATURES][: 1 + (module.num_features > 0)]
    instead = "Use it with fastcell predict, or train cellnet."
    whole = export_graph(model, module, example_cell(preprocessing.depth), (INPUT, SIDES), outputs, instead)
    facts = _properties(model, preprocessing, um_per_px, temperature, module.num_features)
    onnx.helper.set_model_props(whole, facts)
    whole.producer_name, whole.producer_version = "fastcell", __version__
    onnx.checker.check_model(whole, full_check=True)
    return whole


class _RawClassifier(torch.nn.Module):
    """Module from raw cells of one size to probabilities (N, K), and to features (N, F) if there are any."""

    def __init__(self, front: CellPreprocessing, model: CellModule, temperature: float) -> None:
        super().__init__()
        self.front = front
        self.model = model
        self.temperature = temperature
        self.num_features = num_features(model)

    def forward(self, cell: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, probabilities = self.model.features_and_probabilities(self.front(cell))
        if self.temperature != 1:  # as `fastcell.inference.confidence.calibrated`
            probabilities = (probabilities.clamp(min=LEAST_PROBABILITY).log() / self.temperature).softmax(dim=1)
        return (probabilities, features) if self.num_features else (probabilities,)


def example_cell(depth: int) -> torch.Tensor:
    """Return two example cells for the exporter, with sides of different length."""
    return torch.zeros(2, 1, 7, 11, dtype=torch.uint8 if depth == 8 else torch.uint16)


def _properties(
    model: CellModule, preprocessing: Preprocessing, um_per_px: float | None, temperature: float, num_features: int
) -> dict[str, str]:
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
        "network": model.network_name,
        "input": f"{INPUT}: (batch, 1, height, width) {kind}",
        "temperature": repr(temperature),
        "output": f"{OUTPUT}: (batch, {len(model.classes)}) float32, in the order of classes",
        "features": f"{FEATURES}: (batch, {num_features}) float32" if num_features else "",
    }


def save_graph(model: Any, path: Path) -> None:
    """Write the graph to a file of at most 2 GiB, which is the limit of ONNX for a single file."""
    require("onnx", "onnx").save_model(model, str(path))
