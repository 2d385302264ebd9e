"""Parts of a network, identified by a prefix of parameter names: head, frozen parts, parts with own learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from fastcell.errors import ArgumentError, did_you_mean, invalid

HEAD = "head"
ALL_BUT_HEAD = "all-but-head"
"""Value of `freeze` to train only the last layer."""


def head_of(network: nn.Module, num_classes: int) -> str | None:
    """Return the name of the last layer with one output per class; None if the network has none.

    Args:
        network: without input normalisation.
        num_classes: number of outputs.
    """
    found = None
    for name, layer in network.named_modules():
        outputs = getattr(layer, "out_features", getattr(layer, "out_channels", None))
        if name and isinstance(layer, nn.Linear | nn.Conv2d) and outputs == num_classes:
            found = name
    return found


def parse_freeze(text: str | None) -> list[str] | None:
    """Return the parts in a text such as ``features,classifier.1`` or ``all-but-head``; None if nothing is frozen."""
    if text is None or not text.strip():
        return None
    if text.strip().lower().replace("_", " ").replace("-", " ") == "all but head":
        return [ALL_BUT_HEAD]
    return [part.strip() for part in text.split(",") if part.strip()]


def is_in(name: str, part: str) -> bool:
    """Return whether a parameter or layer belongs to a part, i.e. to the layer of that name or to a layer inside it."""
    return name == part or name.startswith(f"{part}.")


def named_part(network: nn.Module, num_classes: int, part: str, argument: str) -> str:
    """Return the prefix of a part: a layer, a parameter, or ``head`` for the last layer.

    Raises:
        ArgumentError: the network has no such part.
    """
    known = [name for name, _ in network.named_modules() if name] + [name for name, _ in network.named_parameters()]
    if part in known:
        return part
    head = head_of(network, num_classes)
    if part == HEAD and head is not None:
        return head
    parts = list(dict.fromkeys(name.partition(".")[0] for name, _ in network.named_parameters()))
    hint = did_you_mean(part, known).rstrip("?") or "Give a layer, such as one of these"
    raise invalid(argument, f"a part of the network ({', '.join(parts)}, or a layer in them)", part, hint)


def freeze(network: nn.Module, num_classes: int, parts: Sequence[str]) -> list[nn.Module]:
    """Exclude parts of a network from training.

    Args:
        network: without input normalisation; its frozen parameters need no gradient afterwards.
        num_classes: number of outputs.
        parts: names of layers or parameters, ``head``, or ``all-but-head`` alone.

    Returns:
        The layers that must stay in evaluation mode, so that their batch normalisation keeps its statistics.

    Raises:
        ArgumentError: there is no such part, or nothing is left to train.
    """
    head = head_of(network, num_classes)
    if ALL_BUT_HEAD in parts:
        if len(parts) > 1:
            raise invalid("freeze", f"{ALL_BUT_HEAD} alone, or names of parts", ",".join(parts), "Leave one out")
        if head is None:
            raise invalid("freeze", "names of parts for a network without a last layer", ALL_BUT_HEAD, "Name its parts")
        frozen = {name for name, _ in network.named_parameters() if not is_in(name, head)}
        layers = [layer for name, layer in network.named_modules() if not (is_in(name, head) or _holds(name, head))]
    else:
        prefixes = [named_part(network, num_classes, part, "freeze") for part in parts]
        frozen = {name for name, _ in network.named_parameters() if _in_any(name, prefixes)}
        layers = [layer for name, layer in network.named_modules() if name and _in_any(name, prefixes)]
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ArgumentError(
            f"freeze must leave a part to train, got {','.join(parts)}, which is the whole network. Name fewer parts."
        )
    return layers


def rates_by_name(
    network: nn.Module, num_classes: int, rates: Mapping[str, float], otherwise: float
) -> dict[str, float]:
    """Return the peak learning rate of each parameter by name. If several parts contain it, the longest prefix applies.

    Args:
        network: without input normalisation.
        num_classes: number of outputs.
        rates: peak learning rate by part.
        otherwise: peak learning rate of all other parameters.

    Raises:
        ArgumentError: there is no such part.
    """
    parts = {named_part(network, num_classes, part, "part_learning_rates"): rate for part, rate in rates.items()}
    found = {}
    for name, _ in network.named_parameters():
        within = [part for part in parts if is_in(name, part)]
        found[name] = parts[max(within, key=len)] if within else otherwise
    return found


def check_rates(rates: Mapping[str, float] | None) -> None:
    """Check learning rates by part.

    Raises:
        ArgumentError: a learning rate is not above 0.
    """
    for part, rate in (rates or {}).items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0:
            raise invalid(f"part_learning_rates of {part}", "above 0", rate, "Freeze a part that must not change")


def _holds(name: str, part: str) -> bool:
    """Return whether a layer contains a part; the network itself contains every part."""
    return not name or part.startswith(f"{name}.")


def _in_any(name: str, parts: Iterable[str]) -> bool:
    return any(is_in(name, part) for part in parts)
