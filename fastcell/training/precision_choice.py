"""Choose the precision of training on a CPU: time some steps of the network in float32 and in bfloat16.

Which one is faster depends on the CPU and on how torch was built, by factors from 0.1 to 2, so it is measured and not
assumed. Weights stay in float32 either way; only the layers compute in bfloat16 (`torch.autocast`).
"""

from __future__ import annotations

import copy
import time
from contextlib import nullcontext
from typing import NamedTuple

import torch

from fastcell.models.lightning_module import CellModule
from fastcell.system.text import printable

SAFE, FAST = "32-true", "bf16-mixed"
WORTH = 1.1
"""Minimum speed-up for which bfloat16 is chosen; below it, float32 costs little more and is reproducible."""
_CELLS = 32
_TURNS = 5
_HOPELESS = 3.0


class PrecisionTiming(NamedTuple):
    """Times of a training step in both precisions.

    Attributes:
        safe_s: shortest time in float32 [s]; infinite if bfloat16 failed before it was measured.
        fast_s: shortest time in bfloat16 [s]; infinite if a layer cannot compute in bfloat16 on this machine.
        num_cells: cells of the step.
        trouble: first line of torch's error message if bfloat16 failed.
    """

    safe_s: float
    fast_s: float
    num_cells: int
    trouble: str = ""

    @property
    def choice(self) -> str:
        """``bf16-mixed`` if it is faster by at least the factor `WORTH`, else ``32-true``."""
        return FAST if not self.trouble and self.safe_s >= WORTH * self.fast_s else SAFE

    def describe(self) -> str:
        """Return the choice and the measured ratio in one line."""
        if self.trouble:
            why = printable(self.trouble)
            return f"precision {SAFE}: the network cannot compute in {FAST} here ({why}; --trainer.precision auto)"
        ratio = self.safe_s / self.fast_s
        if self.choice == FAST:
            why = f"{ratio:.2f} times as fast as {SAFE}"
            then = "; a machine on which it is not may get other weights from the same seed"
        else:
            faster = f"only {ratio:.2f} times as fast" if ratio >= 1 else f"{1 / ratio:.2f} times as slow"
            why, then = f"{FAST} is {faster} here", ""
        measured = f"measured in steps of {self.num_cells} cells"
        return f"precision {self.choice}: {why}, {measured} (--trainer.precision auto){then}"


def time_precisions(model: CellModule, batch_size: int) -> PrecisionTiming:
    """Time forward and backward passes of a copy of the network in alternation. Model and random state stay unchanged.

    Args:
        model: model on the CPU.
        batch_size: number of cells in an optimizer step; at most 32 cells are used.

    Raises:
        RuntimeError: the network cannot compute in float32 either.
    """
    num_cells, size = max(2, min(batch_size, _CELLS)), int(model.preprocessing["image_size"])
    network = copy.deepcopy(model.network).train()
    images = torch.rand(num_cells, 1, size, size, generator=torch.Generator().manual_seed(0))
    if model.hparams["channels_last"]:
        images = images.contiguous(memory_format=torch.channels_last)
    least = {SAFE: float("inf"), FAST: float("inf")}
    with torch.random.fork_rng(devices=[]):
        for turn in range(1 + _TURNS):
            for name in least:
                try:
                    seconds = _time_step(network, images, name)
                except RuntimeError as error:
                    if name == SAFE:
                        raise
                    trouble = (str(error).splitlines() or [type(error).__name__])[0]
                    return PrecisionTiming(least[SAFE], float("inf"), num_cells, trouble)
                if turn:  # the first turn allocates memory and prepares the primitives
                    least[name] = min(least[name], seconds)
            if turn and least[FAST] > _HOPELESS * least[SAFE]:
                break
    return PrecisionTiming(least[SAFE], least[FAST], num_cells)


def _time_step(network: torch.nn.Module, images: torch.Tensor, precision: str) -> float:
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16) if precision == FAST else nullcontext():
        logits = network(images)
    logits.float().square().mean().backward()
    seconds = time.perf_counter() - start
    network.zero_grad(set_to_none=True)
    return seconds
