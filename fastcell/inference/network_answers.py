"""Answers of a network for some images: features, class probabilities, and scores of cells unlike those of training.

A backend runs the network (`fastcell.inference.backends.interface`). This module does not need torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fastcell.inference.backends.interface import NetworkBackend
from fastcell.inference.unlike.reasons import UnlikeScores, joined_scores

FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
"""Axes that are flipped with `tta`; first come the images themselves."""


class ChunkAnswers(NamedTuple):
    """Answers for N cells.

    Attributes:
        probabilities: (N, K) float32.
        unlike: scores of the difference of each cell from the training cells; None without their statistics.
    """

    probabilities: np.ndarray
    unlike: UnlikeScores | None


def joined_answers(parts: Sequence[ChunkAnswers]) -> ChunkAnswers:
    """Join the answers for one or more chunks."""
    scores = [part.unlike for part in parts if part.unlike is not None]
    probabilities = np.concatenate([part.probabilities for part in parts])
    return ChunkAnswers(probabilities, joined_scores(scores) if scores else None)


def probabilities_of(loss: str, logits: np.ndarray) -> np.ndarray:
    """Return class probabilities (B, K) float32 that sum to 1: the softmax, or normalised sigmoids for `sigmoid`.

    Computes the same as `fastcell.models.losses.probabilities`, without torch.

    Args:
        loss: loss of the training.
        logits: (B, K) float32.
    """
    with np.errstate(invalid="ignore"):  # logits of a diverged network
        if loss == "sigmoid":  # in log space: sigmoids of very negative logits underflow
            logits = -np.logaddexp(np.float32(0), -logits)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def features_and_answers(
    backend: NetworkBackend, images: np.ndarray, loss: str, tta: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Run a network on images (B, 1, S, S) and return features (B, F) and probabilities (B, K), both float32.

    Args:
        backend: runs the network.
        images: preprocessed images, float32.
        loss: loss of the training.
        tta: average the probabilities over the four flips; the features are those of the images themselves.
    """
    found, features = [], np.empty((len(images), 0), np.float32)
    for number, flipped in enumerate(_flipped(images) if tta else iter((images,))):
        logits, of_flip = backend.run(flipped)
        features = features if number else of_flip
        found.append(logits)
    return features, mean_probabilities(loss, found)


def mean_probabilities(loss: str, logits: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over the flips of the class probabilities (B, K) float32.

    Args:
        loss: loss of the training.
        logits: (B, K) float32 of each flip; one array without flips.
    """
    found = [probabilities_of(loss, of_flip) for of_flip in logits]
    return found[0] if len(found) == 1 else np.asarray(np.mean(found, axis=0, dtype=np.float32))


def _flipped(images: np.ndarray) -> Iterator[np.ndarray]:
    return (np.ascontiguousarray(np.flip(images, axes)) if axes else images for axes in FLIPS)
