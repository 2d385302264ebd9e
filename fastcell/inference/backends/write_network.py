"""Write the network of a checkpoint as ONNX, from images to logits and features, with torch's exporter."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch

from fastcell.errors import DataError
from fastcell.inference.backends.network_files import NETWORK_FILE, NetworkDescription, NetworkFiles, file_hash
from fastcell.inference.beside_weights import split_content
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import load_classifier, read_checkpoint
from fastcell.storage.whole_files import replace_file
from fastcell.system.optional_packages import require

INPUT = "images"
LOGITS, FEATURES = "logits", "features"
OPSET = 18


class _Outputs(torch.nn.Module):
    """Module from images to logits, and to features if there are any."""

    def __init__(self, model: CellModule) -> None:
        super().__init__()
        self.model = model
        self.num_features = _num_features(model)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, logits = self.model.features_and_logits(images)
        return (logits, features) if self.num_features else (logits,)


def write_network(files: NetworkFiles) -> NetworkDescription:
    """Write network.onnx and network.json of a checkpoint.

    Raises:
        DataError: the checkpoint cannot be read, or the network has parts that ONNX or torch's exporter lacks.
        FastcellError: a package is missing.
    """
    model = load_classifier(files.checkpoint)
    path = files.folder / NETWORK_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    preprocessing = Preprocessing.from_dict(model.preprocessing)
    program = export_network(model, preprocessing.image_size)
    replace_file(path, lambda temporary: require("onnx", "onnx").save_model(program, str(temporary)))
    values, arrays = split_content(read_checkpoint(files.checkpoint))
    description = NetworkDescription(
        files.checkpoint_hash,
        str(model.hparams["network"]),
        list(model.classes),
        preprocessing,
        str(model.hparams["loss"]),
        _num_features(model),
        values,
        {NETWORK_FILE: file_hash(path)},
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
    require("onnx", "onnx")
    require("onnxscript", "onnx")
    model.hparams["channels_last"] = False
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    module = _Outputs(model).eval()
    remarks = logging.getLogger("torch.onnx")
    before = remarks.level
    remarks.setLevel(logging.ERROR)  # it reports missing packages that are not needed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (torch.zeros(2, 1, size, size),),
                input_names=[INPUT],
                output_names=[LOGITS, FEATURES][: 1 + (module.num_features > 0)],
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"network {model.hparams['network']!r} cannot be written as ONNX ({reason}). Take --backend torch."
        ) from error
    finally:
        remarks.setLevel(before)
    assert program is not None
    graph = program.model_proto
    for part in (graph, graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.functions):
        part.ClearField("metadata_props")  # the exporter's notes contain paths of this machine
        part.ClearField("doc_string")
    return graph


def _num_features(model: CellModule) -> int:
    size = int(model.preprocessing.get("image_size", 128))
    with torch.inference_mode():
        return int(model.features_and_logits(torch.zeros(1, 1, size, size))[0].shape[1])
