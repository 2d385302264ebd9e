"""Return what a gate needs beside class and probabilities: confidence and flags of each cell as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.predictions.table import Predictions

MOST_TEXTS = 999
OTHER_TEXT = "other"


@dataclass(frozen=True)
class GateColumns:
    """Confidence and flags of N cells as numbers; NaN is unknown.

    Attributes:
        confidence: (N,) float32, from 0 to 1; NaN for a cell without a prediction.
        unsure: (N,) float32, 1 if the confidence is below the requested minimum, else 0; NaN without a prediction.
        unlike_training: (N,) float32, 1 if the cell is unlike those of training, else 0; NaN if that is unknown. None
            if the table has no such column.
        unlike_score: (N,) float32, above 1 for such a cell; NaN and None as for `unlike_training`.
        reason: (N,) str, reason why the cell is unsure or has no prediction; empty for other cells.
        unlike_reason: (N,) str, features outside their usual range; empty for cells that are not unlike those of
            training. None as for `unlike_training`.
    """

    confidence: npt.NDArray[np.float32]
    unsure: npt.NDArray[np.float32]
    unlike_training: npt.NDArray[np.float32] | None
    unlike_score: npt.NDArray[np.float32] | None
    reason: npt.NDArray[np.object_]
    unlike_reason: npt.NDArray[np.object_] | None

    def numbers(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return all columns as numbers by name; `reason` and `unlike_reason` as codes, see `code_texts`."""
        found = {"confidence": self.confidence, "unsure": self.unsure, "reason": self._coded_reasons[0]}
        if self.unlike_training is not None and self.unlike_score is not None:
            found |= {"unlike_training": self.unlike_training, "unlike_score": self.unlike_score}
        if self._coded_unlike is not None:
            found["unlike_reason"] = self._coded_unlike[0]
        return found

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return the columns that the table has, by name, with the reasons as texts."""
        found = {"confidence": self.confidence, "unsure": self.unsure, "reason": self.reason}
        more = (self.unlike_training, self.unlike_score, self.unlike_reason)
        named = zip(("unlike_training", "unlike_score", "unlike_reason"), more, strict=True)
        return found | {name: values for name, values in named if values is not None}

    def texts(self) -> dict[str, list[str]]:
        """Return the texts of the codes in `numbers`, by column: the text of code 1, of code 2 and so on."""
        found = {"reason": self._coded_reasons[1]}
        if self._coded_unlike is not None:
            found["unlike_reason"] = self._coded_unlike[1]
        return found

    @cached_property
    def _coded_reasons(self) -> tuple[npt.NDArray[np.float32], list[str]]:
        return code_texts(self.reason)

    @cached_property
    def _coded_unlike(self) -> tuple[npt.NDArray[np.float32], list[str]] | None:
        return None if self.unlike_reason is None else code_texts(self.unlike_reason)


def gate_columns(predictions: Predictions) -> GateColumns:
    """Return confidence and flags of the cells of a table, which may lack some of the columns."""
    table, names = predictions.table, predictions.table.column_names
    confidence = predictions.probabilities.max(axis=1, initial=-np.inf)
    answered = np.isfinite(confidence)
    unlike = scores = None
    if "unlike_score" in names and "unlike_training" in names:
        scores = table.column("unlike_score").cast(pa.float32()).to_numpy(zero_copy_only=False)
        known = pc.is_valid(table.column("unlike_training")).to_numpy(zero_copy_only=False)
        unlike = np.where(known, predictions.unlike_training, np.nan).astype(np.float32)
    return GateColumns(
        confidence=np.where(answered, confidence, np.nan).astype(np.float32),
        unsure=np.where(answered, predictions.unsure, np.nan).astype(np.float32),
        unlike_training=unlike,
        unlike_score=scores,
        reason=_texts(table, "reason"),
        unlike_reason=_texts(table, "unlike_reason") if "unlike_reason" in names else None,
    )


def code_texts(texts: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Return a code for each text, and the texts of the codes.

    Args:
        texts: (N,) str.

    Returns:
        Codes, (N,) float32: 0 for an empty text, k for the k-th text. The texts, at most `MOST_TEXTS`: the most
        frequent ones in alphabetical order; the last stands for all others if there are more.
    """
    words, counts = np.unique(texts[texts != ""].astype(str), return_counts=True)
    kept = words
    if len(words) > MOST_TEXTS:
        kept = np.sort(words[np.argsort(-counts, kind="stable")[: MOST_TEXTS - 1]])
    number = {str(word): place for place, word in enumerate(kept.tolist(), 1)} | {"": 0}
    codes = np.array([number.get(str(text), MOST_TEXTS) for text in texts.tolist()], np.float32)
    return codes, [*kept.tolist(), *([OTHER_TEXT] if len(kept) < len(words) else [])]


def _texts(table: pa.Table, name: str) -> npt.NDArray[np.object_]:
    if name not in table.column_names:
        return np.full(table.num_rows, "", object)
    return np.array(table.column(name).fill_null("").to_pylist(), object)
