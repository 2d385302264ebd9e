"""A network between its input normalisation and its decision shift, and what it answers."""

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from fastcell.models.decision_shift import DecisionShift
from fastcell.models.losses import probabilities
from fastcell.models.network_parts import ALL_BUT_HEAD, rates_by_name
from fastcell.models.network_parts import freeze as freeze_parts
from fastcell.models.penultimate import SharedPenultimate, features_and_logits
from fastcell.models.registry import NETWORKS, create_network
from fastcell.models.weight_average import WeightAverage
from fastcell.system.own_parts import part_name

_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))


class AssembledNetwork(pl.LightningModule):
    """A network as the hyper-parameters of `CellModule` describe it, and its features, logits and probabilities.

    Attributes:
        network: the layers, in the order in which images pass them.
        average: running average of their weights, which evaluation uses; None without `ema_decay`.
        classes: class names in the order of the outputs.
        preprocessing: preparation of the images.
        own_loss: a user-defined loss, if there is one.
    """

    network: nn.Module
    average: WeightAverage | None
    classes: list[str]
    preprocessing: dict[str, Any]
    own_loss: Callable[..., torch.Tensor] | None
    _frozen: Sequence[nn.Module] = ()

    def _assemble(self) -> None:
        """Make `network`, and `average` if there is one, from the hyper-parameters."""
        hparams, num_classes = self.hparams, len(self.classes)
        side, freeze, rates = (
            int(self.preprocessing.get("image_size", 128)),
            hparams["freeze"],
            hparams["part_learning_rates"],
        )
        self.network = create_network(hparams["network"], num_classes, side, hparams["init"])
        # With parameters, the gradient of the input of the first convolution would be needed.
        norm = nn.BatchNorm2d(1, affine=False) if hparams["input_norm"] else nn.Identity()
        if hparams["decision_shift"]:
            self.network = nn.Sequential(norm, self.network, DecisionShift(hparams["decision_shift"], num_classes))
        elif hparams["input_norm"]:
            self.network = nn.Sequential(norm, self.network)
        if freeze:
            self._frozen = freeze_parts(self.bare_network, num_classes, freeze)
            if hparams["input_norm"] and ALL_BUT_HEAD in freeze:
                self._frozen.append(self.network.get_submodule("0"))
            self.train()  # the trainer keeps the mode of each layer
        if rates:
            rates_by_name(self.bare_network, num_classes, rates, hparams["learning_rate"])  # checks the names
        if hparams["channels_last"]:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = None if hparams["ema_decay"] is None else WeightAverage(self.network, hparams["ema_decay"])
        if hparams["compile_network"]:
            self.network.compile()

    @property
    def has_small_network(self) -> bool:
        """Whether the network is one of this package, whose activations are small."""
        return isinstance(self.hparams["network"], str) and self.hparams["network"] in NETWORKS

    @property
    def network_name(self) -> str:
        """Short name of the network for titles; for a user-defined network the name of its class."""
        return part_name(self.hparams["network"])

    @property
    def bare_network(self) -> nn.Module:
        """The network without input normalisation and shift, whose parameters have the names of `create_network`."""
        wrapped = self.hparams["input_norm"] or self.hparams["decision_shift"]
        return self.network[1] if wrapped else self.network  # type: ignore[index]

    @property
    def decision_layers(self) -> list[DecisionShift]:
        """The layers of `decision_shift`, of the network and of its average; empty without a shift."""
        return [layer for layer in self.modules() if isinstance(layer, DecisionShift)]

    def train(self, mode: bool = True) -> "AssembledNetwork":
        """Set training or evaluation mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K) of images (B, 1, H, W); evaluation uses the averaged weights if there are any."""
        return self._current_network()(self._in_memory_format(images))

    def features_and_logits(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return penultimate activations (B, F) and logits (B, K), both float32, of images (B, 1, H, W).

        One pass of the network in the order of the images, without flips; logits are those of `forward`. F is 64 for
        CellNet and 0 for a network without a last fully connected layer (`fastcell.models.penultimate`).
        """
        features, logits = features_and_logits(self._current_network(), self._in_memory_format(images))
        return features.float(), logits.float()

    def shared_features_and_logits(self) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Return a function like `features_and_logits` that several threads can call at the same time."""
        penultimate = SharedPenultimate(self._current_network())

        def run(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            features, logits = penultimate(self._in_memory_format(images))
            return features.float(), logits.float()

        return run

    def predict_probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Return class probabilities (B, K) float32 of images (B, 1, H, W), averaged over four flips with `tta`."""
        return self._evaluate(images)[1]

    def features_and_probabilities(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of `features_and_logits` and the probabilities of `predict_probabilities`.

        With `tta`, the features are those of the images without flips.
        """
        features, logits = self.features_and_logits(images)
        found = [self._probabilities(logits)]
        if self.hparams["tta"]:
            flipped = [self(images.flip(axes)).float() for axes in _FLIPS[1:]]
            found += [self._probabilities(logits) for logits in flipped]
        return features, torch.stack(found).mean(dim=0) if len(found) > 1 else found[0]

    def _current_network(self) -> nn.Module:
        return self.network if self.training or self.average is None else self.average.module

    def _in_memory_format(self, images: torch.Tensor) -> torch.Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.hparams["channels_last"] else images

    def _evaluate(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and probabilities; with `tta` their means over four flips."""
        if not self.hparams["tta"]:
            logits = self(images).float()
            return logits, self._probabilities(logits)
        flips = [self(images.flip(axes) if axes else images).float() for axes in _FLIPS]
        of_flips = torch.stack([self._probabilities(logits) for logits in flips])
        return torch.stack(flips).mean(dim=0), of_flips.mean(dim=0)

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return probabilities(self.hparams["loss"] if self.own_loss is None else "cross_entropy", logits)
