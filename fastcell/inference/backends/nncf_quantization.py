"""Quantise a network to 8 bits for OpenVINO: the ranges of its values are those that change its logits least.

An 8-bit value has 255 levels between the limits of its range. The few brightest pixels of an input image, such as
reflections, can be twice as bright as all others: if the range reaches to them, the cell itself has half of the levels.
Several shares of cut pixels are therefore tried, and the network with the smallest error of its logits on the
calibration images is kept. On trained networks of 64 and 128 pixels this reduced the error three- to fivefold, at the
same speed (``docs/guides/backends.md``).
"""

from __future__ import annotations

import importlib
import io
import logging
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.inference.backends.fixed_batches import batch_size
from fastcell.system.cpu_features import cpu_features
from fastcell.system.optional_packages import require

CUT_SHARES = (0.0, 5e-5, 1e-4, 1e-3)
"""Shares of the brightest pixels beyond the range of the input that are tried; also of the darkest if a pixel is
negative."""
OUTLIER_SHARE = 1e-5
"""Share of the activations beyond each end of their range that is tried, besides 0."""

_SMALL_LAYER_WEIGHTS = 1_000_000


class Quantiser:
    """Quantiser of one network: weights by channel, activations by tensor, biases corrected.

    Args:
        network: .onnx file.
        images: (N, 1, S, S) float32, preprocessed training cells, N >= 1.

    Raises:
        FastcellError: a package is missing.
    """

    def __init__(self, network: Path, images: np.ndarray) -> None:
        self._nncf, self._openvino = require("nncf", "openvino"), require("openvino", "openvino")
        logging.getLogger("nncf").setLevel(logging.ERROR)  # its set_log_level changes handlers of others, too
        self._core, self._network, self._images = self._openvino.Core(), network, images
        self._size = images.shape[-1]
        self._batch = min(batch_size(self._size), len(images))

    def quantised(self, cut: float = 0.0, outliers: float = 0.0) -> Any:
        """Return an 8-bit network, an ``openvino.Model`` with batches of any size.

        Args:
            cut: share of the brightest pixels outside of the range of the input.
            outliers: share of the activations outside of each end of their range.
        """
        nncf, images = self._nncf, self._images
        batches = [
            images[begin : begin + self._batch] for begin in range(0, len(images) - self._batch + 1, self._batch)
        ]
        model = self._read(self._batch)
        ignored = _small_layers(model)
        if cut:
            ignored.append(self._limit_input(model, cut))
        with redirect_stdout(io.StringIO()):  # progress bars
            found = nncf.quantize(
                model,
                nncf.Dataset(batches),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(batches),
                ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
                advanced_parameters=self._options(outliers),
            )
        found.reshape([-1, 1, self._size, self._size])
        return found

    def best(self) -> Any:
        """Return the 8-bit network whose logits on the images differ least from those of the network in 32 bits."""
        error = self._error_of_logits()
        by_cut = {cut: self.quantised(cut) for cut in CUT_SHARES}
        errors = {cut: error(model) for cut, model in by_cut.items()}
        cut = min(errors, key=errors.__getitem__)
        narrower = self.quantised(cut, OUTLIER_SHARE)
        return narrower if error(narrower) < errors[cut] else by_cut[cut]

    def save(self, model: Any, out: Path) -> None:
        """Write a network: a .xml file, and a .bin file beside it."""
        self._openvino.save_model(model, str(out), compress_to_fp16=False)

    def _limit_input(self, model: Any, cut: float) -> str:
        """Limit the pixels of the input of a network, and return the name of the new operation.

        A range of the input alone, without this operation, left twice the error in a trial.
        """
        low, high = np.quantile(self._images, (cut, 1 - cut)).tolist()  # 0 is in every range: it pads convolutions
        parameter = model.inputs[0].get_node()
        readers = list(parameter.output(0).get_target_inputs())
        limited = self._openvino.opset8.clamp(parameter, min(low, 0.0), max(high, 0.0))
        for reader in readers:
            reader.replace_source_output(limited.output(0))
        return str(limited.get_friendly_name())

    def _read(self, batch: int) -> Any:
        model = self._core.read_model(str(self._network))
        model.reshape([batch, 1, self._size, self._size])
        return model

    def _error_of_logits(self) -> Callable[[Any], float]:
        """Return a function that computes the mean square error of a network's logits on the images."""
        expected = self._logits(self._read(-1))

        def error(model: Any) -> float:
            return float(np.square(self._logits(model) - expected).mean(dtype=np.float64))

        return error

    def _logits(self, model: Any) -> np.ndarray:
        request = self._core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
        parts = [self._images[begin : begin + self._batch] for begin in range(0, len(self._images), self._batch)]
        return np.concatenate([next(iter(request.infer([part]).values())).copy() for part in parts])

    def _options(self, outliers: float) -> Any:
        exact = "avx512_vnni" in cpu_features() or "avx_vnni" in cpu_features() or "amx_int8" in cpu_features()
        # Without these instructions, sums of two products may exceed 16 bits unless the weights have 7 bits.
        fix = self._nncf.OverflowFix.DISABLE if exact else self._nncf.OverflowFix.ENABLE
        if not outliers:
            return self._nncf.AdvancedQuantizationParameters(overflow_fix=fix)
        ranges = importlib.import_module("nncf.quantization.range_estimator")

        end = ranges.StatisticsCollectorParameters(
            statistics_type=ranges.StatisticsType.QUANTILE,
            aggregator_type=ranges.AggregatorType.MEAN,
            quantile_outlier_prob=outliers,
        )
        both = ranges.RangeEstimatorParameters(min=end, max=end)
        return self._nncf.AdvancedQuantizationParameters(overflow_fix=fix, activations_range_estimator_params=both)


def _small_layers(model: Any) -> list[str]:
    """Return the names of the fully connected layers, which take little time and stay in floating point.

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
