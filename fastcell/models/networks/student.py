"""Small networks for distillation: two or three strided convolutions and a global mean."""

from collections.abc import Sequence

import torch
from torch import nn

from fastcell.models.initialization import initialize

# (kernel, stride, maps at width 1) of each convolution.
FINE = ((5, 2, 16), (3, 2, 32), (3, 2, 64))
COARSE = ((8, 4, 32), (3, 2, 64))
"""Convolutions of half the cost: the first one moves by 4 pixels."""


class StudentNet(nn.Module):
    """Network for images of 32 to 48 pixels that costs about 1 % of CellNet at 128 pixels.

    Each stage is convolution (strided, padded so that a map has the image's side over the stride, no bias) -> batch
    normalisation -> ReLU, so that an inference program can merge it into one operation. The stages are followed by the
    mean of each map and one output per class.

    The network maps images (B, 1, H, W), floating point, to logits (B, K).

    Args:
        num_classes: K.
        width: factor of the numbers of maps; each convolution has its `maps` at width 1.
        init: initial weights, see `fastcell.models.initialization.initialize`.
        convolutions: kernel, stride and maps of each convolution, `FINE` or `COARSE`.
    """

    def __init__(
        self,
        num_classes: int,
        width: float = 1.0,
        init: str = "kaiming",
        convolutions: Sequence[tuple[int, int, int]] = FINE,
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = 1
        for kernel, stride, maps in convolutions:
            wide = round(maps * width)
            convolution = nn.Conv2d(channels, wide, kernel, stride, (kernel - stride + 1) // 2, bias=False)
            stages += [convolution, nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels, num_classes)
        initialize(self, init)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images).mean(dim=(2, 3)))
