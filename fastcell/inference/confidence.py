"""Calibrated confidence of a network: its temperature, and confidence thresholds for a given accuracy.

Both come from validation cells at the end of training and are kept in the checkpoint. This module does not need torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.errors import ArgumentError, DataError, invalid
from fastcell.stats.calibration import COLDEST, HOTTEST, fit_temperature, log_probabilities, rescale
from fastcell.stats.operating_curves import reject_curve

CHECKPOINT_KEY = "fastcell_confidence"
LEAST_VALID = 50
"""Minimum number of validation cells to fit a temperature; with fewer, the temperature is 1."""
LEAST_ACCEPTED = 30
"""Minimum number of validation cells above a confidence threshold."""
_ROWS_AT_ONCE = 1 << 18


class ConfidenceThreshold(NamedTuple):
    """A confidence threshold above which the answers for validation cells have a given accuracy.

    Attributes:
        confidence: the threshold; answers with at least this confidence are accepted.
        accuracy, low, high: accuracy of the accepted answers for validation cells, and its 95 % interval.
        coverage: share of the validation cells with an accepted answer.
        num_cells: number of validation cells with an accepted answer.
    """

    confidence: float
    accuracy: float
    low: float
    high: float
    coverage: float
    num_cells: int

    def describe(self) -> str:
        """Return the threshold as one line."""
        return (
            f"answers with a confidence of at least {self.confidence:.3f}: accuracy {self.accuracy:.3f} "
            f"[{self.low:.3f}, {self.high:.3f}] on {self.num_cells:,} validation cells, {self.coverage:.1%} of them"
        )


@dataclass(frozen=True)
class Confidence:
    """Temperature of a network, and its calibrated answers for validation cells.

    Attributes:
        temperature: divisor of the log probabilities; 1 leaves them unchanged.
        confidence: (n,) float32 calibrated probability of the predicted class of validation cells.
        right: (n,) bool, whether the prediction is correct.
        groups: (n,) int64 number of each cell's group; None if the cells have no groups.
    """

    temperature: float
    confidence: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.int64] | None

    def calibrate(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return calibrated probabilities (N, K) float32; rows with NaN or infinity stay as they are."""
        return calibrated(probabilities, self.temperature)

    def threshold(self, accuracy: float) -> ConfidenceThreshold:
        """Return the lowest threshold above which the answers for validation cells reach an accuracy.

        The threshold is chosen on the cells on which its accuracy is measured, so the accuracy on new cells may be a
        little lower. The interval does not allow for this choice.

        Args:
            accuracy: above 0 and at most 1.

        Raises:
            ArgumentError: the accuracy is out of range, or no threshold with at least 30 validation cells reaches it.
        """
        if not 0 < accuracy <= 1:
            raise invalid("--accuracy", "above 0 and at most 1", accuracy, "0.95 is a usual value")
        if len(self.confidence) < LEAST_ACCEPTED:
            raise ArgumentError(
                f"--accuracy needs at least {LEAST_ACCEPTED} validation cells in the run, got "
                f"{len(self.confidence):,}. Give --min_confidence, or train with a larger validation subset."
            )
        curve = reject_curve(self.confidence[:, None], np.where(self.right, 0, 1), self.groups)
        num = np.rint(curve.coverage * len(self.confidence)).astype(np.int64)
        enough = num >= LEAST_ACCEPTED
        reached = np.flatnonzero(enough & (curve.accuracy >= accuracy))
        if not len(reached):
            best = np.flatnonzero(enough)[curve.accuracy[enough].argmax()]
            at = f"{curve.threshold[best]:.3f} on {num[best]:,} cells"
            raise ArgumentError(
                f"--accuracy must be reached on at least {LEAST_ACCEPTED} validation cells, got {accuracy:g}: the "
                f"best is {curve.accuracy[best]:.3f}, at a confidence of {at}. "
                "Give a lower accuracy, or --min_confidence."
            )
        lowest = reached[-1]  # thresholds fall
        columns = (curve.threshold, curve.accuracy, curve.low, curve.high, curve.coverage)
        confidence, reached_accuracy, low, high, coverage = (float(column[lowest]) for column in columns)
        return ConfidenceThreshold(confidence, reached_accuracy, low, high, coverage, int(num[lowest]))

    def to_checkpoint(self) -> dict[str, Any]:
        """Return arrays and numbers for a checkpoint."""
        return dict(vars(self))

    @classmethod
    def from_checkpoint(cls, content: dict[str, Any]) -> Confidence | None:
        """Return the confidence stored in a checkpoint; None for checkpoints of older versions and unfinished runs.

        Raises:
            DataError: the stored values are damaged.
        """
        saved = content.get(CHECKPOINT_KEY)
        if saved is None:
            return None
        try:
            temperature, groups = float(saved["temperature"]), saved["groups"]
            confidence, right = (np.asarray(saved[name]) for name in ("confidence", "right"))
            confidence, right = confidence.astype(np.float32), right.astype(np.bool_)
            groups = None if groups is None else np.asarray(groups).astype(np.int64)
            if not COLDEST / 2 <= temperature <= HOTTEST * 2:
                raise ValueError(f"temperature {temperature:g}")
            if confidence.ndim != 1 or right.shape != confidence.shape or not np.isfinite(confidence).all():
                raise ValueError("confidences of another shape, or not finite")
            if groups is not None and (groups.shape != confidence.shape or groups.min(initial=0) < 0):
                raise ValueError("groups of another shape")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"the calibration in the checkpoint is damaged ({error}). Take another checkpoint."
            ) from None
        return cls(temperature, confidence, right, groups)


def fit_confidence(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64] | None
) -> Confidence:
    """Fit the temperature on validation cells, and keep their answers.

    Args:
        probabilities: (n, K) finite probabilities.
        labels: (n,) true classes.
        groups: (n,) number of each cell's group, or None.
    """
    enough = len(labels) >= LEAST_VALID
    temperature = fit_temperature(log_probabilities(probabilities), labels) if enough else 1.0
    answers = calibrated(probabilities, temperature)
    right = answers.argmax(axis=1) == labels if len(labels) else np.empty(0, np.bool_)
    return Confidence(temperature, answers.max(axis=1, initial=0.0), right, groups)


def calibrated(probabilities: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float32]:
    """Return probabilities (N, K) float32 at a temperature; at 1 they are returned unchanged."""
    if temperature == 1.0:
        return probabilities
    out = np.empty_like(probabilities)
    for first in range(0, len(out), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        with np.errstate(invalid="ignore"):
            out[part] = rescale(log_probabilities(probabilities[part]), temperature)
    return out
