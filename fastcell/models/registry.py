"""Networks by name: those of this package, and those of timm if it is installed."""

import difflib
import importlib.util
from collections.abc import Callable

from torch import nn

from fastcell.errors import invalid
from fastcell.models.networks.cellnet import CellNet
from fastcell.models.networks.gao import GaoNet

MIN_IMAGE_SIZE = 8

NETWORKS: dict[str, Callable[[int, int, str], nn.Module]] = {
    "cellnet": lambda num_classes, image_size, init: CellNet(num_classes, image_size, init=init),
    "cellnet-wide": lambda num_classes, image_size, init: CellNet(num_classes, image_size, wide=True, init=init),
    "gao": lambda num_classes, image_size, init: GaoNet(num_classes, image_size, init=init),
}


def create_network(name: str, num_classes: int, image_size: int = 128, init: str = "kaiming") -> nn.Module:
    """Create a network that maps images (B, 1, image_size, image_size) to logits (B, num_classes).

    Args:
        name: one of `network_names()`. Networks of timm get one input channel and no pretrained weights.
        num_classes: number of classes, >= 1.
        image_size: height and width of the images [px].
        init: initial weights of this package's networks; networks of timm keep their own.

    Raises:
        ArgumentError: `name` is unknown (the message lists the known names), `num_classes` is below 1, or `image_size`
            is too small for the network.
    """
    if num_classes < 1:
        raise invalid("num_classes", "at least 1", num_classes, "Give one class name per class")
    if image_size < MIN_IMAGE_SIZE:
        raise invalid("image_size", f"at least {MIN_IMAGE_SIZE} pixels", image_size, "Choose a larger side")
    if name in NETWORKS:
        return NETWORKS[name](num_classes, image_size, init)
    if name in network_names():
        return _create_timm(name, num_classes, image_size)
    raise invalid("network", "a known name", name, _known_names(name))


def network_names() -> list[str]:
    """Return every name that `create_network` accepts on this machine, those of this package first."""
    if not _has_timm():
        return list(NETWORKS)
    import timm

    return [*NETWORKS, *timm.list_models()]


def _has_timm() -> bool:
    return importlib.util.find_spec("timm") is not None


def _create_timm(name: str, num_classes: int, image_size: int) -> nn.Module:
    import timm

    try:  # networks with position embeddings need the image size; convolutional ones reject it
        return timm.create_model(name, in_chans=1, num_classes=num_classes, img_size=image_size)
    except TypeError:
        return timm.create_model(name, in_chans=1, num_classes=num_classes)


def _known_names(name: str) -> str:
    ours = ", ".join(NETWORKS)
    if not _has_timm():
        return f"There are {ours}; with timm installed (pip install timm) also any name of timm's"
    close = difflib.get_close_matches(name, network_names(), n=5)
    return f"There are {ours} and {len(network_names()) - len(NETWORKS)} of timm's" + (
        f", nearest: {', '.join(close)}" if close else ""
    )
