"""Batches of a fixed size for a compiled network: the outputs of a cell do not depend on the rest of its batch.

A program may use different instructions for different batch sizes, and their results differ in the last bits. Images
are therefore processed in batches of a fixed size; the last batch is padded with zeros. A single image is a batch of
one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_MOST_BYTES = 1 << 20  # of the images of a batch; larger batches do not fit into the cache of a core
_FEWEST, _MOST = 16, 128
_PIXEL_BYTES = 4

Batch = tuple[np.ndarray, np.ndarray | None]


def batch_size(size: int) -> int:
    """Return the number of images of `size` x `size` pixels in a batch."""
    return max(_FEWEST, min(_MOST, _MOST_BYTES // (_PIXEL_BYTES * size * size)))


def run_in_batches(
    run: Callable[[np.ndarray], Batch], images: np.ndarray, batch: int, num_features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run a function on batches of `batch` images, or on a single image without padding.

    Args:
        run: function from images (b, 1, S, S), b = `batch` or 1, to outputs (b, K) and (b, F), or None for F = 0.
        images: (B, 1, S, S) float32.
        batch: images of a batch.
        num_features: F.

    Returns:
        Logits (B, K) and features (B, F), float32.
    """
    count = len(images)
    images = np.ascontiguousarray(images, np.float32)
    if count == 1:
        parts = [run(images)]
    else:
        parts = []
        for begin in range(0, count, batch):
            part = images[begin : begin + batch]
            if len(part) < batch:
                filled = np.zeros((batch, *images.shape[1:]), np.float32)
                filled[: len(part)] = part
                part = filled
            parts.append(run(part))
        if not parts:  # no images: the outputs of one batch tell the number of classes
            parts = [run(np.zeros((batch, *images.shape[1:]), np.float32))]
    logits = np.concatenate([part[0] for part in parts])[:count]
    if not num_features:
        return logits, np.empty((count, 0), np.float32)
    return logits, np.concatenate([part[1] for part in parts if part[1] is not None])[:count]
