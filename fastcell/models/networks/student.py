"""Small networks for distillation: three strided convolutions and a global mean."""

import torch
from torch import nn

from fastcell.models.initialization import initialize

# (kernel, maps) of the three convolutions at width 1, stride 2 each.
CONVOLUTIONS = ((5, 16), (3, 32), (3, 64))


class StudentNet(nn.Module):
    """Network for images of 24 to 48 pixels that costs about 1 % of CellNet at 128 pixels.

    Each stage is convolution (stride 2, half the kernel as padding, no bias) -> batch
    normalisation -> ReLU, so that an inference program can merge it into one operation. The stages are followed by the
    mean of each map and one output per class.

    The network maps images (B, 1, H, W), floating point, to logits (B, K).

    Args:
        num_classes: K.
        width: factor of the numbers of maps, which are 16, 32 and 64 at width 1.
        init: initial weights, see `fastcell.models.initialization.initialize`.
    """

    def __init__(self, num_classes: int, width: float = 1.0, init: str = "kaiming") -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = 1
        for kernel, maps in CONVOLUTIONS:
            wide = round(maps * width)
            convolution = nn.Conv2d(channels, wide, kernel, stride=2, padding=kernel // 2, bias=False)
            stages += [convolution, nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels, num_classes)
        initialize(self, init)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images).mean(dim=(2, 3)))
