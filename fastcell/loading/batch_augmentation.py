"""User-defined augmentation: a function that changes the training batches on their device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from fastcell.errors import invalid
from fastcell.loading.batch import Batch
from fastcell.ops.step_seed import own_draws, step_seed
from fastcell.system.own_parts import own_part, part_name, usable_part

BatchFunction = Callable[[Batch], Batch]
"""Function from a batch to a batch of the same shape, on the same device."""


class BatchAugmentation:
    """Apply a function to training batches, with the global random states set from seed, epoch, step and rank.

    The random numbers that the function draws from torch, NumPy or Python therefore do not depend on interruptions of a
    run. The random states of the training are restored afterwards.

    Args:
        function: function from `Batch` to `Batch`; images keep their shape (B, 1, S, S).
        seed: seed of the run.
        rank: number of this process.
    """

    def __init__(self, function: BatchFunction, seed: int, rank: int = 0) -> None:
        self.function, self.seed, self.rank = function, seed, rank

    def __call__(self, batches: Iterator[Batch], epoch: int, first: int) -> Iterator[Batch]:
        """Yield the changed batches of an epoch, starting with step `first`."""
        for step, batch in enumerate(batches, first):
            device = batch.images.device
            seed = step_seed("batch_augmentation", self.seed, epoch, step, self.rank)
            with own_draws(seed, device), torch.no_grad():
                found = self.function(batch)
            _check(found, batch, self.function)
            yield found


def find_function(value: Any) -> BatchFunction | None:
    """Return the function of the argument `batch_augmentation`: a callable, or a class path; None for None.

    Raises:
        ArgumentError: the argument is neither.
    """
    if value is None or (callable(value) and not isinstance(value, str)):
        return value  # type: ignore[no-any-return]
    part = own_part(value, "batch_augmentation")
    if part is None:
        rule = "a function from Batch to Batch, or its class path"
        raise invalid("batch_augmentation", rule, value, "Write for example my_package.flip_half")
    found = usable_part(part, "batch_augmentation", {})
    if not callable(found):
        raise invalid("batch_augmentation", "callable on a Batch", part.class_path, "Give the class a __call__")
    return found  # type: ignore[no-any-return]


def name_of_function(value: Any) -> Any:
    """Return a value that a checkpoint can hold: a class path stays as it is, a function becomes its name."""
    if value is None or isinstance(value, str | dict):
        return value
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _check(found: Any, batch: Batch, function: BatchFunction) -> None:
    """Raise ArgumentError if a function did not return a batch with the shapes of `batch`."""
    name = part_name(name_of_function(function))
    if not isinstance(found, Batch):
        raise invalid(f"batch_augmentation {name}", "a function that returns a Batch", type(found).__name__,
                      "Return batch._replace(images=...)")  # fmt: skip
    shapes = [tuple(column.shape) for column in found], [tuple(column.shape) for column in batch]
    if shapes[0] != shapes[1]:
        raise invalid(f"batch_augmentation {name}", f"one that keeps the shapes {shapes[1]}", shapes[0], "Correct it")
