"""Seeds of random numbers in one training step, so that the user's own code draws the same ones in a resumed run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import torch


def step_seed(use: str, seed: int, epoch: int, step: int, rank: int) -> int:
    """Return a seed, 0 to 2**63 - 1, for what is drawn in a step.

    Args:
        use: what is drawn, so that two uses in one step are independent.
        seed: seed of the run.
        epoch: number of the epoch.
        step: number of the batch in the epoch.
        rank: number of this process.
    """
    text = f"{use} {seed} {epoch} {step} {rank}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch, on all devices, of NumPy and of Python."""
    torch.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002, that generator is the one that is meant
    random.seed(seed)


@contextmanager
def own_draws(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators inside the context, and restore their states at its end.

    Args:
        seed: from `step_seed`.
        device: device whose generator of torch is kept besides that of the CPU.
    """
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            seed_generators(seed)
            yield
        finally:
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)
