"""A running average of a network's weights, which replaces them in evaluation."""

import copy
import itertools
from typing import Any

import torch
from torch import nn


class WeightAverage(nn.Module):
    """Exponential moving average of the parameters and buffers of a network.

    The first update copies the network; update t > 0 gives ``decay * average + (1 - decay) * network``. The decay rises
    to its value over the first steps: after t updates it is at most (1 + t) / (10 + t). In a run of much fewer than 1 /
    (1 - decay) steps, the average therefore covers about the last tenth of the run and not the initial weights (as in
    TensorFlow's `tf.train.ExponentialMovingAverage` with `num_updates`).

    The state has the names of `torch.optim.swa_utils.AveragedModel`. That class reads its counter from the device twice
    per update; here the host counts and does not wait for the device.

    Args:
        network: network to copy; the copy is `module`.
        decay: decay per step, 0 <= decay < 1.

    Attributes:
        module: network with the averaged weights, without gradients.
        n_averaged: () int64, number of updates.
        decay_rises: False for a constant decay, as in runs of earlier versions.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network)
        self.n_averaged: torch.Tensor
        self.register_buffer("n_averaged", torch.tensor(0, dtype=torch.long))
        self.decay, self.decay_rises = decay, True
        self._done = 0
        self.requires_grad_(False)  # otherwise DDP would wait for gradients of the average
        self.register_load_state_dict_post_hook(_count_as_loaded)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return what the averaged network returns."""
        return self.module(*inputs, **options)

    def update_parameters(self, network: nn.Module) -> None:
        """Take the present weights of `network`, which is on the same device, into the average."""
        (share,) = self.shares_of_next(1)
        self.mix(network, share)
        self.count(1)

    def shares_of_next(self, num: int) -> list[float]:
        """Return the share that the network gets in each of the next `num` updates; 1 in the first of all."""
        return [self._share(self._done + ahead) for ahead in range(num)]

    def _share(self, done: int) -> float:
        if done == 0:
            return 1.0
        return 1 - (min(self.decay, (1.0 + done) / (10.0 + done)) if self.decay_rises else self.decay)

    def count(self, num: int) -> None:
        """Count updates that were made, or are being made, by `mix`."""
        self._done += num

    @torch.no_grad()
    def mix(self, network: nn.Module, share: float | torch.Tensor) -> None:
        """Replace the average by ``average + share * (network - average)``; the host does not wait.

        Args:
            network: on the device of the average.
            share: from `shares_of_next`: a number, or () float32 on the device.
        """
        pairs = list(zip(_tensors(self.module), _tensors(network), strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        if isinstance(share, torch.Tensor):
            for average, now in floating:
                average.lerp_(now, share.to(average.dtype))
        else:
            torch._foreach_lerp_([average for average, _ in floating], [now for _, now in floating], share)
        for average, now in pairs:
            if not average.is_floating_point():  # counts of batches
                average.copy_(average * (1 - share) + now * share)
        self.n_averaged += 1


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in itertools.chain(network.parameters(), network.buffers())]


def _count_as_loaded(average: WeightAverage, incompatible_keys: Any) -> None:
    average._done = int(average.n_averaged)
