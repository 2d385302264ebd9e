"""The paper's network: three convolutions and two fully connected layers (Table I)."""

import itertools

import torch
from torch import nn

from fastcell.models.initialization import initialize
from fastcell.models.networks.same_padding import SameConv2d, SameMaxPool2d, same_size

# (kernel, stride, maps) of the three convolutions. Table I states kernels and maps. The strides follow from the
# 2,048 = 4 x 4 x 128 values of Figure 3 and agree with the released code.
CONVOLUTIONS = ((11, 2, 32), (6, 2, 64), (3, 1, 128))
POOL = 2


class CellNet(nn.Module):
    """The 8-layer network of Meng et al., IEEE JBHI 23(5) 2019, doi 10.1109/JBHI.2018.2878878, Table I.

    Each stage is convolution -> 2 x 2 max-pool -> ReLU -> batch normalisation, with "same" padding as in the paper's
    TensorFlow code. The stages are followed by 64 units with ReLU and one output per class.

    The network maps images (B, 1, H, W), floating point, H = W = `image_size` [px], to logits (B, K).

    Args:
        num_classes: K.
        image_size: height and width of the images [px].
        wide: insert the 2,048-unit fully connected layer of Figure 3 and of the released code before the 64 units
            (Table I does not have it).
        init: initial weights, see `fastcell.models.initialization.initialize`.
    """

    def __init__(self, num_classes: int, image_size: int = 128, wide: bool = False, init: str = "kaiming") -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels, side = 1, image_size
        for kernel, stride, maps in CONVOLUTIONS:
            stages += [SameConv2d(channels, maps, kernel, stride), SameMaxPool2d(POOL), nn.ReLU(), nn.BatchNorm2d(maps)]
            channels, side = maps, same_size(same_size(side, stride), POOL)
        self.features = nn.Sequential(*stages)
        flat = channels * side * side
        widths = [flat, 2048, 64] if wide else [flat, 64]
        connections: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in itertools.pairwise(widths):
            connections += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.classifier = nn.Sequential(*connections, nn.Linear(64, num_classes))
        initialize(self, init)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))
