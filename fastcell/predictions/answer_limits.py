"""Limits of trust in predictions: temperature, minimum confidence, and statistics of training cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastcell.errors import ArgumentError, invalid
from fastcell.inference.confidence import Confidence
from fastcell.inference.unlike.training_cells import TrainingCells
from fastcell.runs.prediction_columns import UNSURE


class AnswerLimits(NamedTuple):
    """Calibration and limits of the answers of a checkpoint.

    Attributes:
        known: statistics of training cells; None if the checkpoint has none.
        confidence: temperature and validation cells; None if the checkpoint has none.
        min_confidence: minimum confidence of an answer; 0 for no limit.
        lines: lines for the user.
    """

    known: TrainingCells | None
    confidence: Confidence | None
    min_confidence: float
    lines: list[str]

    def calibrate(self, probabilities: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (N, K) float32; without a temperature they are unchanged."""
        return probabilities if self.confidence is None else self.confidence.calibrate(probabilities)


def read_answer_limits(
    checkpoint: Path, classes: list[str], min_confidence: float | None, accuracy: float | None
) -> AnswerLimits:
    """Read temperature and statistics of a checkpoint; see `answer_limits`."""
    from fastcell.runs.checkpoint import read_checkpoint

    return answer_limits(read_checkpoint(checkpoint), classes, min_confidence, accuracy)


def answer_limits(
    content: dict[str, Any], classes: list[str], min_confidence: float | None = None, accuracy: float | None = None
) -> AnswerLimits:
    """Read temperature and statistics of a checkpoint, and determine the minimum confidence of an answer.

    Args:
        content: content of a checkpoint.
        classes: classes of the network.
        min_confidence: minimum confidence, 0 to 1; None for no limit.
        accuracy: accuracy on validation cells from which the minimum confidence follows; None for no limit.

    Raises:
        ArgumentError: both limits are given, one is out of its range, the accuracy cannot be reached, or a class has
            the name of unsure cells.
        DataError: the checkpoint or its statistics are damaged.
    """
    if min_confidence is not None and accuracy is not None:
        raise ArgumentError("--min_confidence and --accuracy must not be given together. Leave one out.")
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise invalid(
            "--min_confidence", "from 0 to 1", min_confidence, "0.9 keeps answers with a probability of at least 0.9"
        )
    wanted = (min_confidence or 0) > 0 or accuracy is not None
    if wanted and UNSURE in classes:
        raise ArgumentError(f"a class must not be named {UNSURE!r} with --min_confidence or --accuracy. Rename it.")
    known, confidence = TrainingCells.from_checkpoint(content), Confidence.from_checkpoint(content)
    lines = []
    if known is None:
        lines.append(
            "the checkpoint has no statistics of training cells (an older version wrote it, the run was not finished, "
            "or it had too few cells): unlike_training stays empty"
        )
    elif known.caution:
        lines.append(known.caution)
    if confidence is None:
        lines.append("the checkpoint has no temperature: probabilities are not calibrated")
    least = float(min_confidence or 0)
    if accuracy is not None:
        if confidence is None:
            raise ArgumentError(
                "--accuracy needs validation cells in the checkpoint, got none. Give --min_confidence, or train again "
                "with a validation subset."
            )
        found = confidence.threshold(accuracy)
        least = found.confidence
        lines.append(found.describe())
    return AnswerLimits(known, confidence, least, lines)
