"""Convolution and max-pooling with TensorFlow's "same" padding.

TensorFlow pads so that an input of side n gives ceil(n / stride) outputs; an odd amount of padding
puts the extra row below and the extra column to the right (https://www.tensorflow.org/api_docs/python/tf/nn,
"Notes on padding"). Torch pads both sides alike, which shifts every feature by a pixel where the amount
is odd: for the paper's first layer (11 x 11, stride 2, 128 pixels: 4 before, 5 after), for example.
"""

import torch
from torch import nn
from torch.nn import functional


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after one axis of `size` elements, as TensorFlow's "same" chooses it."""
    total = max((same_size(size, stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def same_size(size: int, stride: int) -> int:
    """Number of outputs of a "same" layer for an axis of `size` elements."""
    return -(-size // stride)


class SameConv2d(nn.Conv2d):
    """2-D convolution with TensorFlow's "same" padding and a square kernel.

    Takes (B, in_channels, H, W), returns (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        top, bottom = same_padding(height, self.kernel_size[0], self.stride[0])
        left, right = same_padding(width, self.kernel_size[1], self.stride[1])
        if (top, left) == (bottom, right):  # the convolution's own padding needs no copy
            return functional.conv2d(images, self.weight, self.bias, self.stride, (top, left))
        return functional.conv2d(
            functional.pad(images, (left, right, top, bottom)), self.weight, self.bias, self.stride
        )


class SameMaxPool2d(nn.Module):
    """Max-pooling over squares of `kernel` pixels, stride = kernel, with TensorFlow's "same" padding (-inf).

    Takes (B, C, H, W), returns (B, C, ceil(H / kernel), ceil(W / kernel)).
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
