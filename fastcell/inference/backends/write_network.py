"""Write the network of a checkpoint as ONNX, from images to logits and features, with torch's exporter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fastcell.inference.backends.network_files import NETWORK_FILE, NetworkDescription, NetworkFiles
from fastcell.inference.beside_weights import split_content
from fastcell.inference.confidence import Confidence
from fastcell.inference.onnx.exporter import export_graph, num_features
from fastcell.inference.unlike.training_cells import TrainingCells
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import load_classifier, read_checkpoint
from fastcell.storage.whole_files import file_hash, replace_file
from fastcell.system.optional_packages import require

INPUT = "images"
LOGITS, FEATURES = "logits", "features"


class _Outputs(torch.nn.Module):
    """Module from images to logits, and to features if there are any."""

    def __init__(self, model: CellModule) -> None:
        super().__init__()
        self.model = model
        self.num_features = num_features(model)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, logits = self.model.features_and_logits(images)
        return (logits, features) if self.num_features else (logits,)


def write_network(files: NetworkFiles, trust: Sequence[str] = ()) -> NetworkDescription:
    """Write network.onnx and network.json of a checkpoint.

    Args:
        files: files of the checkpoint.
        trust: packages whose code the network may import.

    Raises:
        ArgumentError: the network is of a package that is not in `trust`.
        DataError: the checkpoint cannot be read, its statistics or calibration are damaged, or the network has parts
            that ONNX or torch's exporter lacks.
        FastcellError: a package is missing.
    """
    model, content = load_classifier(files.checkpoint, trust), read_checkpoint(files.checkpoint)
    TrainingCells.from_checkpoint(content), Confidence.from_checkpoint(content)  # raises if they are damaged
    path = files.folder / NETWORK_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    preprocessing = Preprocessing.from_dict(model.preprocessing)
    program = export_network(model, preprocessing.image_size)
    replace_file(path, lambda temporary: require("onnx", "onnx").save_model(program, str(temporary)))
    values, arrays = split_content(content)
    description = NetworkDescription(
        files.checkpoint_hash,
        model.network_name,
        list(model.classes),
        preprocessing,
        str(model.hparams["loss"]),
        num_features(model),
        values,
        {NETWORK_FILE: file_hash(path)},
        bool(model.hparams["tta"]),
    )
    files.write(description, arrays)
    return description


def export_network(model: CellModule, size: int) -> Any:
    """Return the graph (`onnx.ModelProto`) of a network.

    The input ``images`` is (B, 1, S, S) float32, the outputs are ``logits`` (B, K) float32 and, if the network has
    penultimate activations, ``features`` (B, F) float32.

    Args:
        model: model on the CPU, in evaluation mode; its memory format becomes contiguous.
        size: S [px].

    Raises:
        DataError: the network has parts that ONNX or torch's exporter lacks.
        FastcellError: a package is missing.
    """
    module = _Outputs(model)
    example, axes = torch.zeros(2, 1, size, size), {0: torch.export.Dim("batch", min=1)}
    outputs = [LOGITS, FEATURES][: 1 + (module.num_features > 0)]
    return export_graph(model, module, example, (INPUT, axes), outputs, "Take --backend torch.")
