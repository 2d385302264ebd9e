"""Start a new run from the weights of another run or another program, matched by tensor name."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fastcell.errors import ArgumentError, invalid
from fastcell.models.lightning_module import CellModule
from fastcell.models.network_parts import head_of, is_in
from fastcell.runs.checkpoint import read_checkpoint
from fastcell.runs.run_folder import find_checkpoint
from fastcell.runs.weight_files import described_network, is_weight_file, read_weight_file
from fastcell.system.text import list_names

SHARE_OF_EPOCHS = 0.5
"""Length of a run that starts from weights, as a share of the epochs or steps of the preset."""

_PREPARATIONS = ("fit", "normalization", "antialias", "scale_um_per_px", "depth", "window")
_MOST_NAMED = 8


class StartWeights(NamedTuple):
    """Weights that a run has taken from another run, or from a file of weights.

    Attributes:
        source: the checkpoint or file.
        digest: BLAKE2b of its weights.
        taken: names of the tensors that were taken.
        anew: names of the tensors of this run's network that keep their initial values, by reason.
        unused: names of the tensors of the checkpoint's network that this run's network does not have.
        cautions: sentences about differences between the runs that make the weights fit less well.
    """

    source: str
    digest: str
    taken: list[str]
    anew: dict[str, str]
    unused: list[str]
    cautions: list[str]

    def describe(self) -> list[str]:
        """Return lines for the user."""
        total = len(self.taken) + len(self.anew)
        lines = [f"starting from {self.source}: {len(self.taken)} of {total} tensors taken"]
        for reason in dict.fromkeys(self.anew.values()):
            names = [name for name, why in self.anew.items() if why == reason]
            lines.append(f"  {len(names)} initialised, {reason}: {list_names(names, _MOST_NAMED)}")
        if self.unused:
            lines.append(f"  {len(self.unused)} unused tensors of that file: {list_names(self.unused, _MOST_NAMED)}")
        return [*lines, *(f"  {line}" for line in self.cautions)]


def start_from(model: CellModule, path: Path) -> StartWeights:
    """Load the weights of a run, a checkpoint or a file of weights into a new model. Nothing in it is executed.

    Tensors are matched by name. The last layer is taken if the classes are the same as in the checkpoint, with its rows
    reordered if needed. If the checkpoint has weights averaged over steps, these are taken, because they were scored.
    A file of weights names no classes, so that the last layer keeps its initial values. If its first convolution is for
    colour images, the weights are summed over the colours, as timm does for images of one channel.

    Args:
        model: new model, of the same network and image size.
        path: run folder or checkpoint; or a file of weights (`fastcell.runs.weight_files`), or the folder around its
            model.safetensors.

    Raises:
        ArgumentError: network or image size differ, no tensor can be taken, or fewer than half from a file of weights.
        DataError: the checkpoint or file is missing or damaged.
    """
    source = find_checkpoint(path)
    if is_weight_file(source):
        return _take(model, path, source, read_weight_file(source), None, [])
    content = read_checkpoint(source)
    there = content["hyper_parameters"]
    _check_same_network(model, there, path)
    wrapped = bool(there.get("input_norm") or there.get("decision_shift"))
    weights = _network_weights(content["state_dict"], wrapped)
    classes = [str(name) for name in there.get("classes") or []]
    return _take(model, path, source, weights, classes, _cautions(model, there))


def _take(
    model: CellModule,
    path: Path,
    source: Path,
    weights: dict[str, torch.Tensor],
    classes: list[str] | None,
    cautions: list[str],
) -> StartWeights:
    """Give a new model tensors by name; `classes` are those of the last layer in the checkpoint; None if unknown."""
    head = head_of(model.bare_network, len(model.classes))
    own = model.bare_network.state_dict()
    taken: dict[str, torch.Tensor] = {}
    anew: dict[str, str] = {}
    for name, value in own.items():
        found = weights.get(name)
        in_head = head is not None and is_in(name, head)
        if in_head and (classes is None or set(classes) != set(model.classes)):
            names = "are not known there" if classes is None else f"differ ({list_names(classes)} there)"
            anew[name] = f"because the classes {names}"
        elif found is None:
            anew[name] = "not there"
        elif found.shape == value.shape:
            taken[name] = found[[(classes or []).index(each) for each in model.classes]] if in_head else found
        elif (grey := _summed_over_colours(found, value.shape)) is not None:
            taken[name] = grey
            cautions = [*cautions, f"{name} was summed over the three colours, because cells are grey"]
        else:
            anew[name] = "of another shape"
    _check_enough(model, path, source, taken, head, weights_alone=classes is None)
    model.bare_network.load_state_dict(taken, strict=False)
    if model.average is not None:
        model.average.module.load_state_dict(model.network.state_dict())
    unused = [name for name in weights if name not in own]
    return StartWeights(str(source), hash_tensors(weights), [*taken], anew, unused, cautions)


def _summed_over_colours(found: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """Return the weights of a convolution (O, C, H, W) from those for colours, (O, 3 C, H, W); None for other shapes.

    C is 1, or more if the network first makes channels of neighbouring pixels. Source: `adapt_input_conv` of timm.
    """
    if len(shape) != 4 or tuple(found.shape) != (shape[0], 3 * shape[1], *shape[2:]):
        return None
    colours = found.float().reshape(shape[0], shape[1], 3, *shape[2:])
    return colours.sum(dim=2).to(found.dtype)


def _check_enough(
    model: CellModule, path: Path, source: Path, taken: Mapping[str, Any], head: str | None, weights_alone: bool
) -> None:
    """Raises ArgumentError if no tensor was taken, or less than half of the network from a file without its name."""
    body = [name for name in model.bare_network.state_dict() if head is None or not is_in(name, head)]
    found = sum(name in taken for name in body)
    if not weights_alone and taken:
        return
    if not weights_alone:
        hint = "Give a run of the same network, or leave the option out"
        raise invalid("--start_from", "a run whose tensors have the names of this network's", str(path), hint)
    if 2 * found < len(body) or not found:
        named = described_network(source)
        hint = f"config.json there names {named}" if named else "Give --model.network NAME of the file's network"
        raise ArgumentError(
            f"--start_from {path} must be weights of {model.network_name}, but {found} of its {len(body)} tensors "
            f"before the last layer match by name and shape. {hint}."
        )


def check_unchanged(started: StartWeights, recorded: Any) -> None:
    """Check that a run that starts again from the beginning uses the same weights as at its first start.

    Args:
        started: weights that were read for this start.
        recorded: entry ``started_from`` of the run's environment.json; None if there is none.

    Raises:
        ArgumentError: the weights have changed.
    """
    digest = recorded.get("digest") if isinstance(recorded, dict) else None
    if digest is not None and digest != started.digest:
        raise ArgumentError(
            f"--start_from of a resumed run must have the weights with which the run began, but those of "
            f"{started.source} have changed since. Start a new run."
        )


def hash_tensors(weights: Mapping[str, torch.Tensor]) -> str:
    """Return a BLAKE2b hash of tensors with their names, 32 hexadecimal digits."""
    digest = blake2b(digest_size=16)
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_same_network(model: CellModule, there: Mapping[str, Any], path: Path) -> None:
    """Raise ArgumentError if network or image size of a checkpoint differ from those of the model."""
    sizes = [int(dict(found or {}).get("image_size", 128)) for found in (model.preprocessing, there["preprocessing"])]
    for option, here, other in (
        ("--model.network", model.hparams["network"], there.get("network")),
        ("--data.image_size", *sizes),
    ):
        if here != other:
            raise ArgumentError(
                f"{option} of a run that starts from {path} must be {other} as there, got {here}. Give {option} "
                f"{other}, or leave --start_from out."
            )


def _network_weights(state: Mapping[str, Any], wrapped: bool) -> dict[str, torch.Tensor]:
    """Return the tensors of `CellModule.bare_network` in a checkpoint; averaged tensors if there are any."""
    averaged = any(name.startswith("average.module.") for name in state)
    prefix = ("average.module." if averaged else "network.") + ("1." if wrapped else "")
    found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def _cautions(model: CellModule, there: Mapping[str, Any]) -> list[str]:
    pairs = [(name, model.preprocessing.get(name), there["preprocessing"].get(name)) for name in _PREPARATIONS]
    pairs.append(("input_norm", model.hparams["input_norm"], there.get("input_norm", False)))
    why = "in that of the weights, which were trained on other images"
    return [f"{name} is {here} in this run and {other} {why}" for name, here, other in pairs if here != other]
