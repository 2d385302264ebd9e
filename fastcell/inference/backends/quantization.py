"""Quantise a network to 8 bits after training, with the ranges of its activations on training cells."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from fastcell.inference.backends.fixed_batches import batch_size
from fastcell.inference.backends.network_files import (
    NETWORK_FILE,
    QUANTISED_FILES,
    NetworkFiles,
    files_of_network,
)
from fastcell.inference.backends.nncf_quantization import Quantiser
from fastcell.storage.whole_files import make_scratch_folder
from fastcell.system.optional_packages import require

NUM_CALIBRATION_CELLS = 320
"""Number of training cells from which the ranges are computed. They are evenly spread over the data set, so that all
classes are represented.
"""


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


def quantise_network(program: str, network: Path, images: np.ndarray, out: Path, search: bool = True) -> None:
    """Write the 8-bit network of a network file.

    Args:
        program: ``openvino`` or ``onnxruntime``.
        network: .onnx file.
        images: (N, 1, S, S) float32, preprocessed training cells, N >= 1.
        out: file to write: .xml, beside which a .bin appears, or .onnx.
        search: whether to search for the best ranges, which takes some seconds; only for OpenVINO.

    Raises:
        FastcellError: a package is missing.
    """
    if program == "openvino":
        quantiser = Quantiser(network, images)
        quantiser.save(quantiser.best() if search else quantiser.quantised(), out)
    else:
        _with_onnxruntime(network, images, out)


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
