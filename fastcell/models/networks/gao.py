"""The network of Gao et al., with which the paper compares its own network."""

import torch
from torch import nn

from fastcell.models.initialization import initialize
from fastcell.models.networks.same_padding import SameConv2d, SameMaxPool2d, same_size

# (kernel, stride, maps, pool) of the three stages.
STAGES = ((7, 1, 6, 2), (4, 2, 16, 3), (3, 1, 32, 3))


class ScaledTanh(nn.Module):
    """Activation 1.7159 tanh(2 x / 3), with a gain near 1 over the working range.

    Source: LeCun et al., Efficient BackProp, 1998.
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return 1.7159 * torch.tanh(values * (2 / 3))


class GaoNet(nn.Module):
    """HEp-2 network of Gao et al., IEEE JBHI 21(2) 2017, as adapted by Meng et al. 2019 (128 x 128 pixel input).

    It has three stages of convolution -> scaled tanh -> max-pool -> batch normalisation with "same" padding (an input
    of 128 pixels flattens to 4 x 4 x 32), then 150 units with scaled tanh and one output per class. Batch normalisation
    is from the adapted release, not from Gao et al.

    The network maps images (B, 1, H, W), floating point, H = W = `image_size` [px], to logits (B, K).

    Args:
        num_classes: K.
        image_size: height and width of the images [px].
        init: initial weights, see `fastcell.models.initialization.initialize`.
    """

    def __init__(self, num_classes: int, image_size: int = 128, init: str = "kaiming") -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels, side = 1, image_size
        for kernel, stride, maps, pool in STAGES:
            stages += [
                SameConv2d(channels, maps, kernel, stride),
                ScaledTanh(),
                SameMaxPool2d(pool),
                nn.BatchNorm2d(maps),
            ]
            channels, side = maps, same_size(same_size(side, stride), pool)
        self.features = nn.Sequential(*stages)
        flat = channels * side * side
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(flat, 150), ScaledTanh(), nn.Linear(150, num_classes))
        initialize(self, init)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))
