"""Networks by name: those of this package and of timm, and those that users register or give by class path."""

import difflib
import importlib.util
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from fastcell.errors import ArgumentError, did_you_mean, invalid
from fastcell.models.networks.cellnet import CellNet
from fastcell.models.networks.gao import GaoNet
from fastcell.models.networks.residual import ResidualNet
from fastcell.models.networks.student import StudentNet
from fastcell.system.optional_packages import install_command
from fastcell.system.own_parts import OwnPart, PartSpec, build_part, call_with, own_part

MIN_IMAGE_SIZE = 8

NETWORKS: dict[str, Callable[[int, int, str], nn.Module]] = {
    "cellnet": lambda num_classes, image_size, init: CellNet(num_classes, image_size, init=init),
    "cellnet-wide": lambda num_classes, image_size, init: CellNet(num_classes, image_size, wide=True, init=init),
    "gao": lambda num_classes, image_size, init: GaoNet(num_classes, image_size, init=init),
    "residual": lambda num_classes, image_size, init: ResidualNet(num_classes, init=init),
    "student": lambda num_classes, image_size, init: StudentNet(num_classes, init=init),
    "student-small": lambda num_classes, image_size, init: StudentNet(num_classes, 0.5, init),
    "student-wide": lambda num_classes, image_size, init: StudentNet(num_classes, 2.0, init),
}

_REGISTERED: dict[str, Callable[..., Any]] = {}


def register_network(name: str, build: Callable[..., nn.Module]) -> None:
    """Register a network under a name that ``--model.network`` and `CellModule` accept in this process.

    Args:
        name: name of letters, digits, ``-`` and ``_``; names of fastcell's and timm's networks are refused.
        build: class or function that returns a network: it maps images (B, 1, S, S), floating point, to logits (B, K).
            Of the arguments `num_classes` (K), `image_size` (S [px]) and `init`, it receives those that it has.

    Raises:
        ArgumentError: the name is taken or has other letters, or `build` cannot be called.

    Examples:
        >>> from torch import nn
        >>> def linear(num_classes, image_size):
        ...     return nn.Sequential(nn.Flatten(), nn.Linear(image_size**2, num_classes))
        >>> register_network("linear", linear)
        >>> create_network("linear", num_classes=3, image_size=16)(torch.zeros(2, 1, 16, 16)).shape
        torch.Size([2, 3])
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise invalid("name", "letters, digits, - and _", name, "Choose another name")
    if not callable(build):
        raise invalid("build", "a class or function", build, "Give what returns the network")
    known = _REGISTERED.get(name)
    # A module that is imported again defines new class objects.
    same = known is not None and _place_of(known) == _place_of(build)
    if name in NETWORKS or (known is not None and not same) or (known is None and name in network_names()):
        raise invalid("name", "one that is free", name, "Choose another name")
    _REGISTERED[name] = build


def create_network(network: PartSpec, num_classes: int, image_size: int = 128, init: str = "kaiming") -> nn.Module:
    """Create a network that maps images (B, 1, image_size, image_size) to logits (B, num_classes).

    Args:
        network: one of `network_names()`, or a class path (`fastcell.system.own_parts`). Networks of timm get one input
            channel and no pretrained weights.
        num_classes: number of classes, >= 1.
        image_size: height and width of the images [px].
        init: initial weights of this package's networks; those of timm keep their own.

    Raises:
        ArgumentError: the name is unknown (the message lists the known ones), `num_classes` is below 1, `image_size` is
            too small for the network, or a user-defined network cannot be built or returns something else.
    """
    if num_classes < 1:
        raise invalid("num_classes", "at least 1", num_classes, "Give one class name per class")
    if image_size < MIN_IMAGE_SIZE:
        raise invalid("image_size", f"at least {MIN_IMAGE_SIZE} pixels", image_size, "Choose a larger side")
    offered = {"num_classes": num_classes, "image_size": image_size, "init": init}
    part = own_part(network, "network")
    if part is not None:
        return _checked(build_part(part, "network", offered), part.class_path, num_classes, image_size)
    name = str(network)
    if name in NETWORKS:
        return NETWORKS[name](num_classes, image_size, init)
    if name in _REGISTERED:
        built = call_with(_REGISTERED[name], OwnPart(name, {}), "network", offered)
        return _checked(built, name, num_classes, image_size)
    if name in network_names():
        return _create_timm(name, num_classes, image_size)
    meant = did_you_mean(name, [*NETWORKS, *_REGISTERED])
    hint = f"{_known_names(name)}, or a class path (my_package.Net)"
    raise invalid("network", "a known name", name, f"{meant} {hint}".strip())


def module_of_network(name: str) -> str | None:
    """Return the module of the class or function registered under a name; None for other names."""
    build = _REGISTERED.get(name)
    return None if build is None else getattr(build, "__module__", None)


def may_draw(network: PartSpec, layers: nn.Module) -> bool:
    """Return whether a network may draw random numbers in training: if it has dropout, or is not fastcell's.

    Args:
        network: name or class path.
        layers: the network.
    """
    known = isinstance(network, str) and network in NETWORKS
    return not known or any(isinstance(layer, _DropoutNd | nn.RReLU) for layer in layers.modules())


def is_network_name(name: str) -> bool:
    """Return whether `create_network` accepts a name on this machine; import timm only if the name may be its own."""
    return name in NETWORKS or name in _REGISTERED or name in network_names()


def network_names() -> list[str]:
    """Return every name that `create_network` accepts on this machine, starting with those of this package."""
    ours = [*NETWORKS, *_REGISTERED]
    if not _has_timm():
        return ours
    import timm

    return [*ours, *timm.list_models()]


def _checked(network: Any, name: str, num_classes: int, image_size: int) -> nn.Module:
    """Return a user-defined network after checking that it returns one logit for each class.

    Raises:
        ArgumentError: it is no network, or returns something else.
    """
    if not isinstance(network, nn.Module):
        raise invalid(f"network {name}", "a torch.nn.Module", type(network).__name__, "Return the network itself")
    images = torch.zeros(2, 1, image_size, image_size)
    mode = {layer: layer.training for layer in network.modules()}
    try:
        with torch.no_grad():
            found = network.eval()(images)
    except NotImplementedError:
        if images.is_meta:  # a layer does not support tensors without memory
            return network
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ArgumentError(
            f"network {name} must take images of shape (B, 1, {image_size}, {image_size}), but: "
            f"{type(error).__name__}: {reason}. Correct it, or give --data.image_size that it takes."
        ) from error
    finally:
        for layer, training in mode.items():
            layer.training = training
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if shape != (2, num_classes):
        rule = f"logits of shape (B, {num_classes}), one for each class"
        raise invalid(f"network {name}", rule, shape, "Let its last layer have num_classes outputs")
    return network


def _place_of(build: Callable[..., Any]) -> tuple[Any, Any]:
    return getattr(build, "__module__", None), getattr(build, "__qualname__", build)


def _has_timm() -> bool:
    spec = importlib.util.find_spec("timm")
    return spec is not None and spec.origin is not None  # not a folder of that name


def _create_timm(name: str, num_classes: int, image_size: int) -> nn.Module:
    import timm

    try:  # networks with position embeddings need the image size; convolutional ones reject it
        return timm.create_model(name, in_chans=1, num_classes=num_classes, img_size=image_size)
    except TypeError:
        return timm.create_model(name, in_chans=1, num_classes=num_classes)


def _known_names(name: str) -> str:
    ours = ", ".join([*NETWORKS, *_REGISTERED])
    if not _has_timm():
        return f"There are {ours}; with timm ({install_command('timm')}) also any name of timm's"
    close = difflib.get_close_matches(name, network_names(), n=5)
    return f"There are {ours} and {len(network_names()) - len(NETWORKS) - len(_REGISTERED)} of timm's" + (
        f", nearest: {', '.join(close)}" if close else ""
    )
