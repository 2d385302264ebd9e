"""A trained network run by ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastcell.inference.backends.fixed_batches import batch_size, run_in_batches
from fastcell.system.optional_packages import require

_ERRORS_ONLY = 3


class OnnxRuntimeNetwork:
    """Backend that runs a network file. A call runs in the calling thread; any number of threads may call.

    Args:
        path: network.onnx, or the .onnx file of an 8-bit network.
        precision: ``fp32`` or ``int8``, as shown to the user.
        size: side of the images [px].
        num_features: F, number of features; 0 if the network has none.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, precision: str, size: int, num_features: int) -> None:
        self.precision, self._size, self._num_features = precision, size, num_features
        runtime = require("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, images: np.ndarray, batch: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (B, K) and features (B, F) float32 of images (B, 1, S, S) float32.

        Args:
            images: the images.
            batch: images of a batch, see `fastcell.inference.backends.fixed_batches`; None for the best number.
        """
        return run_in_batches(self._run_batch, images, batch or batch_size(self._size), self._num_features)

    def _run_batch(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        outputs = self._session.run(None, {"images": images})
        return outputs[0], outputs[1] if self._num_features else None
