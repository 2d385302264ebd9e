"""Penultimate activations: what the last fully connected layer of a network receives."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn


def features_and_logits(network: nn.Module, images: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a network once and return its penultimate activations beside its logits.

    The last fully connected layer is the `nn.Linear` whose output is the logits; if the network changes its outputs
    afterwards, it is the last `nn.Linear` with one output per class.

    Args:
        network: network that maps images to logits (B, K), of this package or any other. It runs without
            `torch.compile`, whose graph has no access to a layer's inputs.
        images: (B, 1, H, W), floating point.

    Returns:
        features, (B, F), 64 columns for CellNet and 150 for GaoNet; F is 0 if the network has no such layer. Logits,
        (B, K). Both have the dtype and the device of the network's output.
    """
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(_: nn.Module, arguments: tuple[Any, ...], output: torch.Tensor) -> None:
        seen.append((arguments[0], output))

    handles = [layer.register_forward_hook(keep) for layer in network.modules() if isinstance(layer, nn.Linear)]
    try:
        logits: torch.Tensor = network.forward(images)
    finally:
        for handle in handles:
            handle.remove()
    return _features_of(seen, logits), logits


class SharedPenultimate:
    """`features_and_logits` of one network, for simultaneous calls from several threads.

    Its hooks stay in the network permanently, so that no call modifies a network while another thread runs it.

    Args:
        network: network that maps images to logits (B, K).
    """

    def __init__(self, network: nn.Module) -> None:
        self._network, self._of_thread = network, threading.local()
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                layer.register_forward_hook(self._keep)

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return penultimate activations (B, F) and logits (B, K) of images (B, 1, H, W)."""
        seen = self._of_thread.seen = []
        logits: torch.Tensor = self._network.forward(images)
        self._of_thread.seen = None
        return _features_of(seen, logits), logits

    def _keep(self, _: nn.Module, arguments: tuple[Any, ...], output: torch.Tensor) -> None:
        seen = getattr(self._of_thread, "seen", None)
        if seen is not None:
            seen.append((arguments[0], output))


def _features_of(seen: list[tuple[torch.Tensor, torch.Tensor]], logits: torch.Tensor) -> torch.Tensor:
    """Return the inputs of the last fully connected layer among (input, output) of all layers in running order."""
    for features, output in reversed(seen):
        if output is logits:
            return features
    for features, output in reversed(seen):
        if output.shape == logits.shape and features.ndim == 2:
            return features
    return logits.new_empty((len(logits), 0))
