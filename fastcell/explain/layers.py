"""List the layers of a network with their output shapes and cost, traced by one forward pass of one image."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from fastcell.models.networks.gao import ScaledTanh
from fastcell.models.networks.same_padding import SameMaxPool2d


class Layer(NamedTuple):
    """One layer as the paper counts them: a convolution, a pooling or a full connection, with the functions after it.

    Attributes:
        name: Name, for example ``convolution 1``.
        detail: Kernel, stride, and the functions after the layer.
        channels: Number of maps, or of units of a full connection.
        side: Side of each map [px]; 0 for a full connection.
        num_weights: Number of weights and biases, including those of the batch normalisation after the layer.
        multiply_adds: Number of multiply-adds for one image.
    """

    name: str
    detail: str
    channels: int
    side: int
    num_weights: int
    multiply_adds: int


_NAMES = {nn.Conv2d: "convolution", SameMaxPool2d: "max-pooling", nn.Linear: "full connection"}
_FOLLOWERS = {nn.ReLU: "ReLU", ScaledTanh: "scaled tanh", nn.BatchNorm2d: "batch norm"}


def trace_layers(network: nn.Module, image_size: int) -> list[Layer]:
    """Return the layers of one of fastcell's own networks, in order.

    Args:
        network: Network in evaluation mode, on the CPU or a GPU. It consists only of the layer types in `_NAMES` and
            `_FOLLOWERS`.
        image_size: S, side of the input [px].
    """
    found: list[Layer] = []
    numbers = dict.fromkeys(_NAMES.values(), 0)

    def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        num_weights = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        kind = next((name for type_, name in _NAMES.items() if isinstance(module, type_)), None)
        if kind is None:
            follower = _FOLLOWERS.get(type(module))
            if follower is not None and found:
                last = found[-1]
                detail = f"{last.detail}, {follower}" if last.detail else follower
                found[-1] = last._replace(detail=detail, num_weights=last.num_weights + num_weights)
            return
        numbers[kind] += 1
        side = output.shape[2] if output.ndim == 4 else 0
        multiply_adds, detail = 0, ""
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0]
            detail = f"{kernel} x {kernel}, stride {module.stride[0]}"
            multiply_adds = output.shape[1] * side**2 * (module.in_channels // module.groups) * kernel**2
        elif isinstance(module, SameMaxPool2d):
            detail = f"{module.kernel} x {module.kernel}"
        elif isinstance(module, nn.Linear):
            multiply_adds = module.in_features * module.out_features
        found.append(Layer(f"{kind} {numbers[kind]}", detail, output.shape[1], side, num_weights, multiply_adds))

    hooks = [module.register_forward_hook(note) for module in network.modules() if not list(module.children())]
    try:
        device = next(network.parameters()).device
        with torch.inference_mode():
            network(torch.ones(1, 1, image_size, image_size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return found
