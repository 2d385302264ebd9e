"""What a backend of inference offers, whatever program runs the network."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class NetworkBackend(Protocol):
    """A trained network together with the program and the device that run it; safe to call from several threads.

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
