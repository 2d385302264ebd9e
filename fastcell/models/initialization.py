"""Initial weights of a network: the paper's scheme and modern defaults."""

from typing import Literal, get_args

from torch import nn

from fastcell.errors import invalid

Init = Literal["kaiming", "torch", "paper"]

PAPER_STD = 0.1
PAPER_BIAS = 0.1


def initialize(network: nn.Module, init: str) -> None:
    """Initialise all convolutions and fully connected layers in place, from torch's random state.

    Batch normalisation keeps weight 1 and bias 0.

    Args:
        network: network to initialise.
        init: `kaiming`: normal with variance 2 / fan_in (He et al., ICCV 2015), biases 0. `torch`: torch's default for
            a new layer, weights and biases uniform with variance 1 / (3 fan_in). `paper`: normal with standard
            deviation 0.1, truncated at two standard deviations, constant biases of 0.1. Meng et al. 2019 (doi
            10.1109/JBHI.2018.2878878) do not state the constant; 0.1 is common with rectifiers.

    Raises:
        ArgumentError: `init` is unknown.
    """
    if init not in get_args(Init):
        raise invalid("init", f"one of {', '.join(get_args(Init))}", init, "Choose one of these")
    if init == "torch":
        return
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if init == "paper":
            nn.init.trunc_normal_(layer.weight, std=PAPER_STD, a=-2 * PAPER_STD, b=2 * PAPER_STD)
            bias = PAPER_BIAS
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            bias = 0.0
        if layer.bias is not None:
            nn.init.constant_(layer.bias, bias)
