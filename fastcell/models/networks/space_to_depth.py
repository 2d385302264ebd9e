"""A strided convolution of one channel as a convolution of several channels with stride 1: the same sums.

One channel uses an eighth of a tensor core's inputs. With stride s, each s x s square of pixels becomes s * s channels
and so does each square of the kernel, which is padded with zeros to a multiple of s. The weights of the layer keep
their form: they are rearranged in every call, and autograd rearranges their gradient back.
"""

import torch
from torch.nn import functional


def depth_weight(weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the weights (O, s * s, K', K') of the convolution on channels; s is the stride, K' = ceil(K / s).

    Args:
        weight: (O, 1, K, K).
        stride: s, >= 2.
    """
    more = -weight.shape[-1] % stride
    return functional.pixel_unshuffle(functional.pad(weight, (0, more, 0, more)), stride)


def convolve_in_depth(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int,
    before: tuple[int, int],
    out: tuple[int, int],
) -> torch.Tensor:
    """Return a strided convolution of images of one channel, computed on s * s channels with stride 1.

    Args:
        images: (B, 1, H, W), floating point.
        weight: (O, 1, K, K).
        bias: (O,), or None.
        stride: s, >= 2.
        before: rows above and columns left of the image that are read as zeros.
        out: height and width of the result; pixels that it needs outside the image are zeros.

    Returns:
        (B, O, *out), in torch's channels_last memory format.
    """
    deep = depth_weight(weight, stride)
    kernel = deep.shape[-1]
    sides = [(number + kernel - 1) * stride for number in out]
    after = [side - first - size for side, first, size in zip(sides, before, images.shape[-2:], strict=True)]
    padded = functional.pad(images[:, 0], (before[1], after[1], before[0], after[0]))
    squares = padded.unflatten(1, (-1, stride)).unflatten(3, (-1, stride))
    # One copy to (B, H', W', s * s), which is the channels_last format of (B, s * s, H', W').
    maps = squares.permute(0, 1, 3, 2, 4).reshape(len(images), *(side // stride for side in sides), stride * stride)
    return functional.conv2d(maps.permute(0, 3, 1, 2), deep.contiguous(memory_format=torch.channels_last), bias)
