"""Optimizer of a run: parameters by learning rate and weight decay, the checks of its settings, and its schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import nn

from fastcell.errors import invalid
from fastcell.models.network_parts import check_rates, rates_by_name
from fastcell.models.schedule import ScheduleName, rate_factor

OptimizerName = Literal["adam", "adamw"]


def check_optimization(
    optimizer: str,
    learning_rate: float,
    weight_decay: float,
    betas: list[float],
    schedule: str,
    warmup: float,
    final_learning_rate: float,
    part_learning_rates: Mapping[str, float] | None,
) -> None:
    """Check the arguments of `CellModule` that describe the optimizer and its schedule.

    Raises:
        ArgumentError: a value is outside its range, or a name is unknown.
    """
    for name, value, kind in (("optimizer", optimizer, OptimizerName), ("schedule", schedule, ScheduleName)):
        if value not in get_args(kind):
            raise invalid(name, f"one of {', '.join(get_args(kind))}", value, "Choose one of these")
    if not learning_rate > 0:
        raise invalid("learning_rate", "above 0", learning_rate, "A usual value is 1e-3")
    if not weight_decay >= 0:
        raise invalid("weight_decay", "0 or more", weight_decay, "0 disables it")
    if not final_learning_rate > 0:
        raise invalid("final_learning_rate", "above 0", final_learning_rate, "1e-6 is close to zero")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise invalid("betas", "two numbers in [0, 1)", betas, "Usual values are [0.9, 0.999]")
    if not 0 <= warmup < 1:
        raise invalid("warmup", "in [0, 1)", warmup, "Give the share of the run in which the learning rate rises")
    check_rates(part_learning_rates)


def parameter_groups(
    network: nn.Module, own_loss: object, num_classes: int, settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the trained parameters by learning rate, with and without weight decay; the peak rate first.

    Args:
        network: without input normalisation.
        own_loss: loss of the user; if it is a module, its parameters are trained at the peak rate.
        num_classes: number of outputs.
        settings: hyper-parameters of `CellModule`.
    """
    peak = settings["learning_rate"]
    rates = rates_by_name(network, num_classes, settings["part_learning_rates"] or {}, peak)
    trained = [(rates[name], p) for name, p in network.named_parameters() if p.requires_grad]
    if isinstance(own_loss, nn.Module):
        trained += [(peak, p) for p in own_loss.parameters()]
    groups: list[dict[str, Any]] = []
    for rate in [peak, *dict.fromkeys(rate for rate, _ in trained if rate != peak)]:
        for decay, has_axes in ((settings["weight_decay"], True), (0.0, False)):
            found = [p for own, p in trained if own == rate and (p.ndim > 1) == has_axes]
            groups.append({"params": found, "weight_decay": decay, "lr": rate})
    return groups


def create_optimizer(groups: list[dict[str, Any]], settings: Mapping[str, Any], fused: bool) -> torch.optim.Optimizer:
    """Return the optimizer of `parameter_groups`.

    Args:
        groups: parameters with their settings.
        settings: hyper-parameters of `CellModule`.
        fused: use torch's fused implementation.
    """
    kind = torch.optim.AdamW if settings["optimizer"] == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings["learning_rate"], betas=tuple(settings["betas"]), fused=fused)


def rate_function(settings: Mapping[str, Any], num_steps: Callable[[], float]) -> Callable[[int], float]:
    """Return the function from an optimizer step to the learning rate as a factor of the peak rate.

    Args:
        settings: hyper-parameters of `CellModule`.
        num_steps: function that returns the steps of the whole run; called only if the schedule depends on them.

    Raises:
        ArgumentError: the schedule needs an end, and the run has none.
    """
    name, peak, warmup = settings["schedule"], settings["learning_rate"], settings["warmup"]
    steps = 1.0 if name == "constant" and not warmup else num_steps()
    if math.isinf(steps):
        raise invalid("schedule", "constant in a run without an end", name, "Set --trainer.max_steps or max_epochs")
    final = settings["final_learning_rate"] / peak
    return lambda step: rate_factor(name, step, int(steps), warmup, final)
