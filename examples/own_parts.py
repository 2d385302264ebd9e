"""A network, a loss and an augmentation of one's own, for ``fastcell fit``.

In the folder of this file::

    fastcell fit cells --model.network own_parts.SmallNet --model.network.width 16 \\
        --model.loss own_parts.FocalLoss --model.loss.gamma 2 \\
        --model.metrics torchmetrics.classification.MulticlassF1Score \\
        --data.batch_augmentation own_parts.invert_half
    fastcell predict RUN cells --out predictions.csv --trust own_parts
"""

import torch
from torch import nn
from torch.nn import functional

import fastcell


class SmallNet(nn.Module):
    """Two convolutions and a mean over the image: any image size, few weights.

    Args:
        num_classes: number of classes, K; fastcell fills it in.
        width: maps of the first convolution.
    """

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K) of images (B, 1, S, S)."""
        return self.head(self.features(images))


class FocalLoss(nn.Module):
    """Cross entropy that counts cells less that are classified well already (Lin et al., ICCV 2017).

    Args:
        gamma: 0 is the cross entropy.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of each cell, (B,), of logits (B, K) and labels (B,)."""
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return (1 - torch.exp(-losses)) ** self.gamma * losses


def invert_half(batch: fastcell.Batch) -> fastcell.Batch:
    """Mirror the grey levels of about half of the cells at their mean, on the device of the batch."""
    images = batch.images
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return batch._replace(images=torch.where(chosen, 2 * mean - images, images))


fastcell.register_network("small-16", lambda num_classes: SmallNet(num_classes, width=16))
