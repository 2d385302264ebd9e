"""Interface of the backends of inference, which is the same for all programs."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class NetworkBackend(Protocol):
    """A trained network on a program and a device. Several threads may call it at the same time.

    Attributes:
        name: name of the program: ``torch``, ``onnxruntime`` or ``openvino``.
        precision: arithmetic of the network: ``fp32``, ``bf16`` or ``int8``.
    """

    name: str
    precision: str

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the network on images.

        Args:
            images: (B, 1, S, S) float32, preprocessed.

        Returns:
            Logits (B, K) float32, and the activations before the last layer, (B, F) float32.
        """
