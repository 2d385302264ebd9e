"""Scores of cells unlike those of training, measured batch by batch beside the predictions.

On a GPU, images and activations of a batch are copied to host memory after the network has processed it, and are
measured one batch later, so that the GPU does not wait for the CPU.
"""

from __future__ import annotations

from collections import deque

import torch

from fastcell.inference.unlike.image_features import network_image_features
from fastcell.inference.unlike.reasons import UnlikeScores, joined_scores
from fastcell.inference.unlike.training_cells import TrainingCells

_Copied = tuple[torch.Tensor, torch.Tensor, torch.cuda.Event | None]


class BatchScorer:
    """Score batches in the order of their arrival.

    Args:
        known: statistics of the training cells.
        threads: threads that measure images.
    """

    def __init__(self, known: TrainingCells, threads: int) -> None:
        self.known, self.threads = known, threads
        self._copied: deque[_Copied] = deque()
        self._done: list[UnlikeScores] = []

    def add(self, images: torch.Tensor, features: torch.Tensor) -> None:
        """Add a batch: images (B, 1, S, S) float32 and activations (B, D) float32, on any device."""
        self._copied.append(_to_host(images, features))
        while len(self._copied) > (1 if images.is_cuda else 0):
            self._measure()

    def take(self) -> UnlikeScores:
        """Return the scores of all cells added since the last call, padding included."""
        while self._copied:
            self._measure()
        done, self._done = self._done or [UnlikeScores.none(0)], []
        return joined_scores(done)

    def _measure(self) -> None:
        images, features, event = self._copied.popleft()
        if event is not None:
            event.synchronize()
        measured = network_image_features(images.numpy(), self.threads)
        self._done.append(self.known.measure(measured, features.numpy()))


def _to_host(images: torch.Tensor, features: torch.Tensor) -> _Copied:
    if not images.is_cuda:
        return images, features, None
    copies = [torch.empty(values.shape, dtype=values.dtype, pin_memory=True) for values in (images, features)]
    for copy, values in zip(copies, (images, features), strict=True):
        copy.copy_(values, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(images.device))
    return copies[0], copies[1], event
