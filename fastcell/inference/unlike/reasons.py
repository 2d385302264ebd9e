"""Scores of cells unlike the training cells, and the reasons in words. Needs neither Numba nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastcell.inference.unlike.feature_names import IMAGE_FEATURES, words_for

NO_FEATURE, BY_NETWORK = -1, -2
UNUSUAL_COMBINATION = "unusual combination of features"
UNLIKE_ANY_CLASS = "unlike any class to the network"


class UnlikeScores(NamedTuple):
    """Scores of N cells, and the image features of each that are outside their usual range.

    Attributes:
        scores: (N,) float32, at most 1e6; a cell with a score above 1 is unlike the training cells. NaN if not scored.
        off: (N, 2) int16, the image features that are farthest off: 2 * feature + 1 if it is above those of training
            cells, 2 * feature if it is below, `NO_FEATURE` without. `BY_NETWORK` comes first if the activations alone
            pass their limit.
    """

    scores: npt.NDArray[np.float32]
    off: npt.NDArray[np.int16]

    @classmethod
    def none(cls, num: int) -> UnlikeScores:
        """Return empty scores: those of cells that were not scored."""
        return cls(np.full(num, np.nan, np.float32), np.full((num, 2), NO_FEATURE, np.int16))

    def at(self, places: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> UnlikeScores:
        """Return the scores of selected cells, by index or by mask."""
        return UnlikeScores(self.scores[places], self.off[places])


def joined_scores(parts: Sequence[UnlikeScores]) -> UnlikeScores:
    """Join the scores of one or more sets of cells."""
    return UnlikeScores(np.concatenate([part.scores for part in parts]), np.concatenate([part.off for part in parts]))


def unlike_columns(found: UnlikeScores, answered: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
    """Return the columns unlike_training, unlike_score and unlike_reason of a table of predictions.

    Args:
        found: scores of N cells.
        answered: (N,) bool, whether a cell has a prediction. Cells without a prediction or a score get null values.
    """
    unknown = np.isnan(found.scores) | ~answered
    texts = reasons(found)
    return {
        "unlike_training": pa.array(found.scores > 1, pa.bool_(), mask=unknown),
        "unlike_score": pa.array(found.scores, pa.float32(), mask=unknown),
        "unlike_reason": pa.array(texts, pa.string(), mask=unknown | (texts == "")),
    }


def reasons(found: UnlikeScores) -> npt.NDArray[np.object_]:
    """Return the difference of each cell from training cells in words, (N,) str, such as ``larger, smoother``.

    The text is empty for a score of at most 1, and for a cell that was not scored.
    """
    texts = np.full(len(found.scores), "", object)
    unlike = np.flatnonzero(found.scores > 1)
    codes, places = np.unique(found.off[unlike], axis=0, return_inverse=True)
    texts[unlike] = np.array([_describe(pair) for pair in codes.tolist()] or [""], object)[places.ravel()]
    return texts


def _describe(pair: list[int]) -> str:
    words = [words_for(IMAGE_FEATURES[code // 2], bool(code % 2)) for code in pair if code >= 0]
    if {"noisier", "smoother"} <= set(words):  # along the axes and along the diagonals
        words = ["noise of another kind"]
    if pair[0] == BY_NETWORK:
        words.insert(0, UNLIKE_ANY_CLASS)
    return ", ".join(dict.fromkeys(words)) or UNUSUAL_COMBINATION
