"""Batches of one size for a compiled network, so that the outputs of a cell do not depend on the cells around it.

A program may compute a batch of another size by other instructions, whose results differ in the last bits. Images are
therefore run in batches of a fixed size, and the last one is filled with zeros. A single image runs alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_MOST_BYTES = 1 << 20  # of the images of a batch: more leave the core's cache
_FEWEST, _MOST = 16, 128
_PIXEL_BYTES = 4

Batch = tuple[np.ndarray, np.ndarray | None]


def batch_size(size: int) -> int:
    """Return the number of images of `size` x `size` pixels in a batch."""
    return max(_FEWEST, min(_MOST, _MOST_BYTES // (_PIXEL_BYTES * size * size)))


def run_in_batches(
    run: Callable[[np.ndarray], Batch], images: np.ndarray, batch: int, num_features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run a function on images, `batch` at a time; on a single image alone.

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
        if not parts:  # the number of classes is that of any batch
            parts = [run(np.zeros((batch, *images.shape[1:]), np.float32))]
    logits = np.concatenate([part[0] for part in parts])[:count]
    if not num_features:
        return logits, np.empty((count, 0), np.float32)
    return logits, np.concatenate([part[1] for part in parts if part[1] is not None])[:count]
