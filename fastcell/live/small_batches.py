"""Batches of a few sizes for a compiled network, so that a small micro-batch is not padded to a full one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from fastcell.inference.backends.fixed_batches import batch_size

_TIMED_RUNS = 3
_DIVISORS = (16, 4, 1)


class FixedBatchNetwork(Protocol):
    """Backend of a program that runs batches of a fixed size.

    Attributes:
        name, precision: as for `fastcell.inference.backends.interface.NetworkBackend`.
    """

    name: str
    precision: str

    def run(self, images: np.ndarray, batch: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Run the network on images (B, 1, S, S) in padded batches of `batch` images; None for the best size."""


class SmallBatches:
    """Backend that divides the images after the last full batch into smaller batches, whichever take the least time.

    Args:
        backend: backend with padded batches, see `fastcell.inference.backends.fixed_batches`.
        size: side of the images [px].
    """

    def __init__(self, backend: FixedBatchNetwork, size: int) -> None:
        self.name, self.precision = backend.name, backend.precision
        self.version = getattr(backend, "version", "")
        self._backend, self._batch = backend, batch_size(size)
        images = np.zeros((self._batch, 1, size, size), np.float32)
        sizes = {1, *(self._batch // divisor for divisor in _DIVISORS)}
        seconds = {count: min(self._timed(images[:count]) for _ in range(_TIMED_RUNS + 1)) for count in sizes}
        self.plans = fastest_batches(seconds, self._batch - 1)
        """Sizes of the batches for 0, 1, ... images."""

    def _timed(self, images: np.ndarray) -> float:
        begin = time.perf_counter()
        self._backend.run(images, batch=len(images))
        return time.perf_counter() - begin

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (B, K) and features (B, F) float32 of images (B, 1, S, S) float32."""
        place = len(images) - len(images) % self._batch
        parts = [self._backend.run(images[:place])] if place or not len(images) else []
        for size in self.plans[len(images) - place]:
            parts.append(self._backend.run(images[place : place + size], batch=size))
            place += size
        if len(parts) == 1:
            return parts[0]
        logits, features = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(features)


def fastest_batches(seconds: Mapping[int, float], most: int) -> list[list[int]]:
    """Return the sizes of the batches that take the least time, for 0 to `most` images; the last one may be padded.

    Args:
        seconds: time of a batch by its size.
        most: maximum number of images.
    """
    plans: list[list[int]] = [[]]
    totals = [0.0]
    for num in range(1, most + 1):
        total, size = min((taken + totals[max(num - size, 0)], size) for size, taken in seconds.items())
        rest = plans[max(num - size, 0)]
        plans.append(sorted([size, *rest], reverse=True))
        totals.append(total)
    return plans
