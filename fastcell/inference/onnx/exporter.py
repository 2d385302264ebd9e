"""Convert a torch module to an ONNX graph with torch's exporter, and remove the exporter's notes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from fastcell.errors import DataError
from fastcell.models.lightning_module import CellModule
from fastcell.system.optional_packages import require

OPSET = 18


def export_graph(
    model: CellModule,
    module: torch.nn.Module,
    example: torch.Tensor,
    inputs: tuple[str, dict[int, Any]],
    outputs: Sequence[str],
    instead: str,
) -> Any:
    """Return the graph (`onnx.ModelProto`) of a module that contains a classifier. It holds no paths of this machine.

    Args:
        model: classifier on the CPU; its memory format becomes contiguous.
        module: module with one input, which contains `model`; it is put into evaluation mode.
        example: input of at least two entries along each axis of variable length.
        inputs: name of the input, and its axes of variable length (`torch.export.Dim` by number).
        outputs: names of the outputs.
        instead: hint for the user if the network cannot be exported, one sentence.

    Raises:
        DataError: the network has parts that ONNX or torch's exporter lacks.
        FastcellError: a package is missing.
    """
    require("onnx", "onnx")
    require("onnxscript", "onnx")
    model.hparams["channels_last"] = False
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    name, axes = inputs
    try:
        with _without_remarks():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                input_names=[name],
                output_names=list(outputs),
                dynamic_shapes={name: axes},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"network {model.network_name!r} cannot be written as ONNX ({reason}). {instead}") from error
    assert program is not None
    graph = program.model_proto  # each access creates a new list
    _forget_origin(graph)
    return graph


def num_features(model: CellModule) -> int:
    """Return the number of penultimate activations of a classifier, 0 if it has none."""
    size = int(model.preprocessing.get("image_size", 128))
    with torch.inference_mode():
        return int(model.features_and_logits(torch.zeros(1, 1, size, size))[0].shape[1])


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Silence the exporter, which reports missing packages that are not needed."""
    remarks = logging.getLogger("torch.onnx")
    before = remarks.level
    remarks.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        remarks.setLevel(before)


def _forget_origin(model: Any) -> None:
    """Remove the exporter's notes, which contain paths of this machine, and duplicate versions."""
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
