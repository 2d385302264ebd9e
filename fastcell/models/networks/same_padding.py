"""Convolution and max-pooling with TensorFlow's "same" padding.

TensorFlow pads an axis of size n so that the layer gives ceil(n / stride) outputs. If the amount of padding is odd, the
extra row is added below and the extra column on the right (https://www.tensorflow.org/api_docs/python/tf/nn, "Notes on
padding"). Torch pads both ends equally, which shifts every feature by a pixel if the amount is odd, e.g. in the paper's
first layer (11 x 11, stride 2, 128 pixels: 4 before, 5 after).
"""

import torch
from torch import nn
from torch.nn import functional

from fastcell.models.networks.space_to_depth import convolve_in_depth


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after an axis of `size` elements for TensorFlow's "same" padding."""
    total = max((same_size(size, stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def same_size(size: int, stride: int) -> int:
    """Return the number of outputs of a layer with "same" padding for an axis of `size` elements."""
    return -(-size // stride)


class SameConv2d(nn.Conv2d):
    """2-D convolution with TensorFlow's "same" padding and a square kernel.

    Maps (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)). On a GPU a strided convolution
    of one channel is computed on more channels (`fastcell.models.networks.space_to_depth`); the weights are the same.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        top, bottom = same_padding(height, self.kernel_size[0], self.stride[0])
        left, right = same_padding(width, self.kernel_size[1], self.stride[1])
        if self.in_channels == 1 and self.stride[0] > 1 and _is_on_gpu(images):
            out = same_size(height, self.stride[0]), same_size(width, self.stride[1])
            return convolve_in_depth(images, self.weight, self.bias, self.stride[0], (top, left), out)
        if (top, left) == (bottom, right):  # the convolution's own padding needs no copy
            return functional.conv2d(images, self.weight, self.bias, self.stride, (top, left))
        return functional.conv2d(
            functional.pad(images, (left, right, top, bottom)), self.weight, self.bias, self.stride
        )


class SameMaxPool2d(nn.Module):
    """Max-pooling over squares of `kernel` pixels, stride = kernel, with TensorFlow's "same" padding (-inf).

    Maps (B, C, H, W) to (B, C, ceil(H / kernel), ceil(W / kernel)).
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        height, width = maps.shape[-2:]
        top, bottom = same_padding(height, self.kernel, self.kernel)
        left, right = same_padding(width, self.kernel, self.kernel)
        if top or bottom or left or right:
            maps = functional.pad(maps, (left, right, top, bottom), value=float("-inf"))
        return functional.max_pool2d(maps, self.kernel)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}"


def _is_on_gpu(images: torch.Tensor) -> bool:
    return images.is_cuda
