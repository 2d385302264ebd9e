"""Class probabilities computed by torch, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from fastcell.models.lightning_module import CellModule
from fastcell.models.losses import probabilities as probabilities_of_logits


class TorchBackend:
    """Backend that runs a network in inference mode. The network must be in evaluation mode.

    Args:
        forward: function that returns class probabilities (B, K) float32 of a batch.
        device: device to which images are moved; None leaves them where they are.
        half: floating-point dtype for `torch.autocast`; None for the network's own.
    """

    def __init__(
        self,
        forward: Callable[[Any], torch.Tensor],
        device: torch.device | None = None,
        half: torch.dtype | None = None,
    ) -> None:
        self.forward, self.device, self.half = forward, device, half

    @classmethod
    def of_module(cls, module: CellModule, half: torch.dtype | None = None) -> TorchBackend:
        """Return the backend of a `CellModule` on its device, with averaged weights and flips as in its evaluation."""
        return cls(module.predict_probabilities, module.device, half)

    @classmethod
    def of_logits(cls, logits: Callable[[Any], torch.Tensor], loss: str) -> TorchBackend:
        """Return the backend of a network without its Lightning module.

        Args:
            logits: function that returns logits (B, K) of a batch.
            loss: loss with which the network was trained; it determines how logits become probabilities.
        """
        return cls(lambda batch: probabilities_of_logits(loss, logits(batch)))

    def probabilities(self, images: Any) -> torch.Tensor:
        """Return class probabilities (B, K) float32 on the network's device.

        Args:
            images: (B, 1, S, S), a tensor or an array; anything else is passed to `forward` unchanged.
        """
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(images)
        if isinstance(images, torch.Tensor) and self.device is not None:
            images = images.to(self.device)
        with torch.inference_mode(), self._autocast():
            return self.forward(images)

    def to_host(self, values: torch.Tensor) -> np.ndarray:
        """Return a tensor in host memory. Waits for the device."""
        return values.cpu().numpy()

    def _autocast(self) -> Any:
        if self.half is None or self.device is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.half)
