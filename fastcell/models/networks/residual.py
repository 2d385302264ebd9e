"""A small residual network with global average pooling."""

import itertools

import torch
from torch import nn
from torch.nn import functional

from fastcell.models.initialization import initialize

STEM_KERNEL = 5
STEM_MAPS = 32
# Maps of the residual blocks; each block halves height and width.
BLOCK_MAPS = (32, 64, 128)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation beside a 2 x 2 mean and a 1 x 1 convolution (ResNet-D).

    Maps (B, in_maps, H, W) to (B, out_maps, ceil(H / 2), ceil(W / 2)).

    Sources: He et al., CVPR 2016, doi 10.1109/CVPR.2016.90; He et al., CVPR 2019, arxiv.org/abs/1812.01187 (shortcut).
    """

    def __init__(self, in_maps: int, out_maps: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_maps, out_maps, 3, 2, 1, bias=False),
            nn.BatchNorm2d(out_maps),
            nn.ReLU(),
            nn.Conv2d(out_maps, out_maps, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_maps),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(in_maps, out_maps, 1, bias=False),
            nn.BatchNorm2d(out_maps),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.residual(maps) + self.shortcut(maps))


class ResidualNet(nn.Module):
    """Convolution 5 x 5 with stride 2, three residual blocks, the mean over each map, and one output per class.

    Because of the mean, the number of weights does not depend on the size of the images: 309,287 for 7 classes.

    The network maps images (B, 1, H, W), floating point, to logits (B, K).

    Args:
        num_classes: K.
        init: initial weights, see `fastcell.models.initialization.initialize`.
    """

    def __init__(self, num_classes: int, init: str = "kaiming") -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(1, STEM_MAPS, STEM_KERNEL, 2, STEM_KERNEL // 2, bias=False),
            nn.BatchNorm2d(STEM_MAPS),
            nn.ReLU(),
        ]
        for in_maps, out_maps in itertools.pairwise((STEM_MAPS, *BLOCK_MAPS)):
            layers.append(ResidualBlock(in_maps, out_maps))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(BLOCK_MAPS[-1], num_classes)
        initialize(self, init)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images).mean(dim=(2, 3)))
