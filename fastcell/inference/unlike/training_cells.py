"""Statistics of the training cells: of their image features and of the network's penultimate activations.

A cell is unlike the training cells if one of two scores exceeds its limit; 97.5 % of held-out cells are within each
limit. The image score is the larger of two Mahalanobis distances from training cells, each divided by its limit: one by
brightness, size and shape, and one by noise. (A single distance of all features would hide changes of noise.) The
network score is the smallest Mahalanobis distance of the activations from the mean of a class, with a covariance shared
by the classes (Lee et al., NeurIPS 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
Adversarial Attacks"). Covariances are shrunk (Ledoit and Wolf, J. Multivariate Analysis 88:365, 2004, doi
10.1016/S0047-259X(03)00096-4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcell.errors import DataError
from fastcell.inference.unlike.distances import measure_distances
from fastcell.inference.unlike.feature_names import IMAGE_FEATURES, NUM_SHAPE_FEATURES
from fastcell.inference.unlike.reasons import UnlikeScores, reasons

USUAL_SHARE = 0.975
"""Share of held-out cells within the limit of each of the two scores."""
LEAST_TRAINING_CELLS = 30
LEAST_HELD_OUT = 40
"""Minimum number of validation cells to set the limits; with fewer, the training cells set them.

Of 39 cells the largest distance is the first that a new cell of the same kind exceeds with a probability of 2.5 %.
"""
CHANCE = 2 * (1 - USUAL_SHARE)
"""Largest expected share of cells that are found unlike the training cells although they are of the same kind."""
CHECKPOINT_KEY = "fastcell_unlike"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainingCells:
    """Statistics of the training cells of a network. It needs NumPy and Numba, but not torch.

    Attributes:
        center, scale: (F,) location and spread of the image features.
        low, high: (F,) range of the scaled image features that contains 99 % of the training cells.
        image_whitening: (F, F) lower triangular, whitens scaled image features of shape, and those of noise.
        network_whitening: (D, D) lower triangular, whitens activations; D is 0 for a network without them.
        means: (K, D) whitened mean activations of the classes with training cells.
        limits: (3,) limits of the distances by shape, by noise, and by activations.
        num_training, num_held_out: number of cells from which statistics and limits were computed; `num_held_out` is 0
            if training cells set the limits.
    """

    center: Floats
    scale: Floats
    low: Floats
    high: Floats
    image_whitening: Floats
    network_whitening: Floats
    means: Floats
    limits: Floats
    num_training: int
    num_held_out: int

    @property
    def caution(self) -> str:
        """A sentence if training cells set the limits, so that `CHANCE` is too low; else empty."""
        if self.num_held_out:
            return ""
        return (
            f"fewer than {LEAST_HELD_OUT} validation cells: the limits come from training cells, so more than "
            f"{CHANCE:.0%} of new cells of the same kind may look unlike them"
        )

    def measure(self, image_features: npt.NDArray[np.float32], features: npt.NDArray[np.float32]) -> UnlikeScores:
        """Score cells; the score of a cell does not depend on the others.

        Args:
            image_features: (B, F) float32, from `fastcell.inference.unlike.image_features.network_image_features`.
            features: (B, D) float32 penultimate activations.

        Returns:
            The scores: the largest of the three distances, each divided by its limit.

        Raises:
            DataError: the activations are of another network.
        """
        if features.shape[1:] != self.network_whitening.shape[:1]:
            units = len(self.network_whitening)
            raise DataError(
                f"statistics of training cells must be of this network ({features.shape[1]} activations), got {units}. "
                "Take the statistics of the same checkpoint."
            )
        scores, off = np.empty(len(features), np.float32), np.empty((len(features), 2), np.int16)
        tables = (np.ascontiguousarray(values, np.float32) for values in (image_features, features))
        image, network = tables
        measure_distances(
            image, self.center, self.scale, self.low, self.high, self.image_whitening,
            NUM_SHAPE_FEATURES, network, self.network_whitening, self.means, self.limits,
            np.empty(len(self.center) + len(self.network_whitening)), scores, off,
        )  # fmt: skip
        return UnlikeScores(scores, off)

    def score(
        self, image_features: npt.NDArray[np.float32], features: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], list[str]]:
        """Return the scores of cells, (B,) float32, and the reason of each; arguments as for `measure`.

        The reason is empty for a cell with a score of at most 1.
        """
        found = self.measure(image_features, features)
        return found.scores, reasons(found).tolist()

    def to_checkpoint(self) -> dict[str, Any]:
        """Return arrays and numbers for a checkpoint, with the names of the image features."""
        return {"image_features": list(IMAGE_FEATURES), **vars(self)}

    @classmethod
    def from_checkpoint(cls, content: dict[str, Any]) -> TrainingCells | None:
        """Return the statistics stored in a checkpoint; None for checkpoints of older versions and unfinished runs.

        Args:
            content: the checkpoint; values are arrays or tensors.

        Raises:
            DataError: the statistics are damaged, or of other image features.
        """
        saved = content.get(CHECKPOINT_KEY)
        if saved is None:
            return None
        try:
            return _checked(saved)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(
                f"the statistics of training cells in the checkpoint are damaged ({error}). Take another checkpoint."
            ) from None


def _checked(saved: dict[str, Any]) -> TrainingCells:
    """Return the statistics of a checkpoint after a check of names, shapes and ranges."""
    if list(saved["image_features"]) != list(IMAGE_FEATURES):
        raise ValueError("other image features")
    width, numbers = len(IMAGE_FEATURES), dict[str, Any]()
    for name in ("num_training", "num_held_out"):
        if not isinstance(saved[name], int) or isinstance(saved[name], bool) or saved[name] < 0:
            raise ValueError(f"{name} is not a number of cells")
        numbers[name] = saved[name]
    arrays: dict[str, Any] = {name: np.asarray(saved[name]).astype(np.float64) for name in _SHAPES}
    units, classes = len(arrays["network_whitening"]), len(arrays["means"])
    sizes = {"F": width, "D": units, "K": classes, "3": 3}
    for name, shape in _SHAPES.items():
        if arrays[name].shape != tuple(sizes[axis] for axis in shape) or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} has another shape or is not finite")
    if not (arrays["scale"] > 0).all() or not (arrays["limits"] > 0).all() or (units and not classes):
        raise ValueError("scales and limits must be above 0")
    if not (arrays["low"] < 0).all() or not (arrays["high"] > 0).all():
        raise ValueError("low must be below 0 and high above")
    return TrainingCells(**arrays, **numbers)


_SHAPES = {
    "center": "F",
    "scale": "F",
    "low": "F",
    "high": "F",
    "image_whitening": "FF",
    "network_whitening": "DD",
    "means": "KD",
    "limits": "3",
}
