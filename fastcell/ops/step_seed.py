"""Seeds of torch's random numbers in one training step, so that a resumed run draws the same ones."""

from __future__ import annotations

from hashlib import blake2b


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
