"""Scores of cells unlike those of training, and words for what is off in them; needs neither Numba nor torch."""

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
    """Scores of N cells, and what is off in each.

    Attributes:
        scores: (N,) float32, at most 1e6; above 1 a cell is unlike those of training. NaN if it was not scored.
        off: (N, 2) int16, the image features that are farthest off: 2 * feature + 1 if it is above those of training
            cells, 2 * feature if it is below, `NO_FEATURE` without. `BY_NETWORK` comes first if the activations alone
            pass their limit.
    """

    scores: npt.NDArray[np.float32]
    off: npt.NDArray[np.int16]

    @classmethod
    def none(cls, num: int) -> UnlikeScores:
        """Return the scores of cells that were not scored."""
        return cls(np.full(num, np.nan, np.float32), np.full((num, 2), NO_FEATURE, np.int16))

    def at(self, places: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> UnlikeScores:
        """Return the scores of some cells: by their places, or by a mask."""
        return UnlikeScores(self.scores[places], self.off[places])


def joined_scores(parts: Sequence[UnlikeScores]) -> UnlikeScores:
    """Return the scores of several sets of cells, at least one, as those of one set."""
    return UnlikeScores(np.concatenate([part.scores for part in parts]), np.concatenate([part.off for part in parts]))


def unlike_columns(found: UnlikeScores, answered: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
    """Return the columns unlike_training, unlike_score and unlike_reason of a table of predictions.

    Args:
        found: scores of N cells.
        answered: (N,) bool, whether a cell has a prediction; the others have nulls, as cells without a score.
    """
    unknown = np.isnan(found.scores) | ~answered
    texts = reasons(found)
    return {
        "unlike_training": pa.array(found.scores > 1, pa.bool_(), mask=unknown),
        "unlike_score": pa.array(found.scores, pa.float32(), mask=unknown),
        "unlike_reason": pa.array(texts, pa.string(), mask=unknown | (texts == "")),
    }


def reasons(found: UnlikeScores) -> npt.NDArray[np.object_]:
    """Return how each cell differs from training cells, (N,) str, such as ``larger, smoother``.

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
