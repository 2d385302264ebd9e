"""Quantise a network to 8 bits after training, with the ranges of its activations on training cells."""

from __future__ import annotations

import io
import logging
import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.inference.backends.fixed_batches import batch_size
from fastcell.inference.backends.network_files import (
    NETWORK_FILE,
    QUANTISED_FILES,
    NetworkFiles,
    files_of_network,
)
from fastcell.storage.whole_files import make_scratch_folder
from fastcell.system.cpu_features import cpu_features
from fastcell.system.optional_packages import require

NUM_CALIBRATION_CELLS = 320
"""Number of training cells from which the ranges are computed. They are evenly spread over the data set, so that all
classes are represented.
"""

_SMALL_LAYER_WEIGHTS = 1_000_000


def quantise(files: NetworkFiles, program: str, images: np.ndarray) -> None:
    """Write the 8-bit network of a program beside network.onnx.

    Args:
        files: files of the network, with network.onnx.
        program: ``openvino`` or ``onnxruntime``.
        images: (N, 1, S, S) float32, preprocessed training cells, N >= 1.

    Raises:
        FastcellError: a package is missing.
    """
    scratch = make_scratch_folder(files.folder)
    try:
        quantise_network(program, files.folder / NETWORK_FILE, images, scratch / QUANTISED_FILES[program])
        names = files_of_network(program, "int8")
        for name in reversed(names):  # the .xml names the .bin, so it appears last
            (scratch / name).replace(files.folder / name)
        files.add(*names)
    finally:
        for left in scratch.iterdir():
            left.unlink()
        scratch.rmdir()


def quantise_network(program: str, network: Path, images: np.ndarray, out: Path) -> None:
    """Write the 8-bit network of a network file.

    Args:
        program: ``openvino`` or ``onnxruntime``.
        network: .onnx file.
        images: (N, 1, S, S) float32, preprocessed training cells, N >= 1.
        out: file to write: .xml, beside which a .bin appears, or .onnx.

    Raises:
        FastcellError: a package is missing.
    """
    if program == "openvino":
        _with_nncf(network, images, out)
    else:
        _with_onnxruntime(network, images, out)


def _with_nncf(network: Path, images: np.ndarray, out: Path) -> None:
    """Quantise with OpenVINO's NNCF: weights by channel, activations by tensor, biases corrected."""
    os.environ.setdefault("NNCF_CI", "1")  # switches off its usage statistics
    nncf, openvino = require("nncf", "openvino"), require("openvino", "openvino")
    nncf.set_log_level(logging.ERROR)
    size = images.shape[-1]
    batch = min(batch_size(size), len(images))
    model = openvino.Core().read_model(str(network))
    model.reshape([batch, 1, size, size])
    batches = [images[begin : begin + batch] for begin in range(0, len(images) - batch + 1, batch)]
    exact = "avx512_vnni" in cpu_features() or "avx_vnni" in cpu_features() or "amx_int8" in cpu_features()
    options = nncf.AdvancedQuantizationParameters(
        # Without these instructions, sums of two products may exceed 16 bits unless the weights have 7 bits.
        overflow_fix=nncf.OverflowFix.DISABLE if exact else nncf.OverflowFix.ENABLE
    )
    with redirect_stdout(io.StringIO()):  # progress bars
        quantised = nncf.quantize(
            model,
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
            ignored_scope=nncf.IgnoredScope(names=_small_layers(model), validate=False),
            advanced_parameters=options,
        )
    quantised.reshape([-1, 1, size, size])
    openvino.save_model(quantised, str(out), compress_to_fp16=False)


def _small_layers(model: Any) -> list[str]:
    """Return the names of the fully connected layers, which take little time and stay in 32 bits.

    This reduced the largest error of a logit on 905 simulated cells of 32 pixels from 0.50 to 0.12.
    """
    found = []
    for layer in model.get_ordered_ops():
        if layer.get_type_name() == "MatMul":
            shapes = [layer.input(index).get_partial_shape() for index in range(2)]
            sizes = [int(np.prod(shape.to_shape())) for shape in shapes if shape.is_static]
            if sizes and max(sizes) < _SMALL_LAYER_WEIGHTS:
                found.append(layer.get_friendly_name())
    return found


def _with_onnxruntime(network: Path, images: np.ndarray, out: Path) -> None:
    """Quantise with ONNX Runtime: quantise and dequantise nodes around each layer, weights by channel."""
    require("onnxruntime", "onnx")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batch = batch_size(images.shape[-1])
    batches = -(-len(images) // batch)

    class Cells(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(images[begin : begin + batch] for begin in range(0, len(images), batch))

        def get_next(self) -> dict[str, np.ndarray] | None:
            found = next(self._batches, None)
            return None if found is None else {"images": found}

    prepared = out.with_suffix(".prepared")
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        quant_pre_process(str(network), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(out),
            Cells(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "MaxPool", "Relu"],
            extra_options={"CalibMovingAverage": True, "CalibMovingAverageConstant": 1.0 / batches},
        )
    finally:
        logging.root.setLevel(before)
