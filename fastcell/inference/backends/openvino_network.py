"""A trained network run by OpenVINO on the CPU."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.errors import FastcellError
from fastcell.inference.backends.fixed_batches import batch_size, run_in_batches
from fastcell.system.cpu_features import HAS_BF16, cpu_features
from fastcell.system.optional_packages import require


def _float_precision(precision: str) -> str:
    """Return the precision of the floating-point layers, which an 8-bit network has, too: its file marks the others."""
    half = precision == "bf16" or (precision == "int8" and not set(cpu_features()).isdisjoint(HAS_BF16))
    return "bf16" if half else "f32"


class OpenVinoNetwork:
    """Backend that runs a network file.

    A call runs in one thread of OpenVINO, and up to `threads` calls run at the same time.

    Args:
        path: network.onnx, or the .xml file of an 8-bit network.
        precision: ``fp32``, ``bf16`` or ``int8``; the last one needs an 8-bit network.
        size: side of the images [px].
        num_features: F, number of features; 0 if the network has none.
        threads: maximum number of simultaneous calls, >= 1.
    """

    name = "openvino"

    def __init__(self, path: Path, precision: str, size: int, num_features: int, threads: int = 1) -> None:
        self.precision, self._size, self._num_features = precision, size, num_features
        self._openvino = require("openvino", "openvino")
        self._path = str(path)
        self._options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,  # the threads of the preprocessing use the same cores
            "INFERENCE_PRECISION_HINT": _float_precision(precision),
        }
        self._core = self._openvino.Core()
        self._compiled: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._requests = threading.local()
        self._process = os.getpid()

    def run(self, images: np.ndarray, batch: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (B, K) and features (B, F) float32 of images (B, 1, S, S) float32.

        Args:
            images: the images.
            batch: images of a batch, see `fastcell.inference.backends.fixed_batches`; None for the best number.

        Raises:
            FastcellError: the process was forked. It lacks the threads of its parent and would wait for them forever.
        """
        if os.getpid() != self._process:
            raise FastcellError(
                "a network in OpenVINO cannot run in a forked process. Start processes with spawn, or load the run in "
                "each of them, or take the backend onnxruntime."
            )
        return run_in_batches(self._run_batch, images, batch or batch_size(self._size), self._num_features)

    def _run_batch(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        request = self._request(len(images))
        found = request.infer([self._openvino.Tensor(images, shared_memory=True)], share_outputs=False)
        outputs = list(found.values())
        return outputs[0], outputs[1] if self._num_features else None

    def _request(self, batch: int) -> Any:
        """Return this thread's request for a batch size."""
        requests: dict[Any, Any] = self._requests.__dict__
        if batch not in requests:
            with self._lock:
                if batch not in self._compiled:
                    model = self._core.read_model(self._path)
                    model.reshape([batch, 1, self._size, self._size])
                    self._compiled[batch] = self._core.compile_model(model, "CPU", self._options)
            requests[batch] = self._compiled[batch].create_infer_request()
        return requests[batch]
