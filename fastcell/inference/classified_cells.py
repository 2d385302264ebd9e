"""Answers of a classifier: class, probabilities and confidence of each cell, as arrays and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.errors import FastcellError
from fastcell.inference.unlike.reasons import UnlikeScores, unlike_columns
from fastcell.runs.prediction_columns import FORMAT_METADATA, NOT_FINITE, PROBABILITY_PREFIX, UNSURE, below_confidence
from fastcell.system.optional_packages import install_hint
from fastcell.system.text import html_text, printable

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped,import-not-found,unused-ignore]

_MOST_CLASSES_SHOWN = 4
_MOST_ROWS_SHOWN = 5


@dataclass(frozen=True, repr=False)
class ClassifiedCells:
    """Answers for N cells, in the order in which they were given.

    Attributes:
        classes: K class names, in the order of the columns of `probabilities`.
        probabilities: (N, K) float32; rows sum to 1. NaN for a cell without an answer.
        keys: N keys, such as paths of images or ``recording.rtdc/000017``; None for cells from arrays.
        groups: group of each cell (donor, run, file), None where it is unknown; None for cells from arrays.
        events: number of each cell in its file, or in the data set if files hold one cell each; None for a quarantined
            cell. None instead of a list for cells from arrays.
        reasons: reason for each cell without an answer, None for the others; None if all cells have an answer.
        unlike: scores of the difference of each cell from the training cells; None if the checkpoint lacks statistics
            of the training cells.

    Examples:
        >>> answers = ClassifiedCells(["G1", "S"], np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], np.float32))
        >>> answers
        <ClassifiedCells: 3 cells; S 2, G1 1>
        >>> answers.labels.tolist()
        ['G1', 'S', 'S']
        >>> answers.to_table().column("class").to_pylist()
        ['G1', 'S', 'S']
    """

    classes: list[str]
    probabilities: np.ndarray
    keys: Sequence[str] | None = None
    groups: Sequence[str | None] | None = None
    events: Sequence[int | None] | None = None
    reasons: Sequence[str | None] | None = None
    unlike: UnlikeScores | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def answered(self) -> np.ndarray:
        """(N,) bool, True for the cells that have finite probabilities."""
        return np.asarray(np.isfinite(self.probabilities).all(axis=1))

    @property
    def unlike_training(self) -> np.ndarray | None:
        """(N,) bool, True for a cell unlike the training cells; None if the checkpoint lacks their statistics."""
        return None if self.unlike is None else np.asarray(self.unlike.scores > 1)

    @property
    def class_numbers(self) -> np.ndarray:
        """(N,) int64, index of the most probable class in `classes`; -1 for a cell without an answer."""
        if not len(self):
            return np.empty(0, np.int64)
        return np.where(self.answered, np.nan_to_num(self.probabilities, nan=-1.0).argmax(axis=1), -1)

    @property
    def labels(self) -> np.ndarray:
        """(N,) str, the most probable class; empty for a cell without an answer."""
        return np.array([*self.classes, ""])[self.class_numbers]

    @property
    def confidence(self) -> np.ndarray:
        """(N,) float32, probability of the most probable class; NaN for a cell without an answer."""
        best = self.probabilities.max(axis=1, initial=0.0)
        return np.where(self.answered, best, np.float32(np.nan)).astype(np.float32)

    def counts(self) -> dict[str, int]:
        """Return the number of cells of each class, in the order of `classes`; cells without an answer are left out."""
        numbers = self.class_numbers
        counts = np.bincount(numbers[numbers >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def to_table(self, min_confidence: float = 0.0) -> pa.Table:
        """Return the answers as a table with the columns of ``fastcell predict``.

        These are key, group, event, class, confidence, ``p_<class>`` for each class, reason and, if the checkpoint
        describes its training cells, unlike_training, unlike_score and unlike_reason. The key of a cell from an array
        is its number. A cell without an answer has null values and a reason.

        Args:
            min_confidence: minimum confidence of an answer; cells with less get the class ``unsure`` and a reason.
        """
        answered, numbers = self.answered, self.class_numbers
        unsure = answered & (self.confidence < np.float32(min_confidence))
        names = pa.array(self.classes, pa.string()).take(pa.array(np.maximum(numbers, 0), mask=~answered))
        keys = pa.array([str(number) for number in range(len(self))] if self.keys is None else self.keys, pa.string())
        columns = {
            "key": keys,
            "group": pa.nulls(len(self), pa.string()) if self.groups is None else pa.array(self.groups, pa.string()),
            "event": pa.array(np.arange(len(self)) if self.events is None else self.events, pa.int64()),
            "class": pc.if_else(pa.array(unsure), UNSURE, names) if unsure.any() else names,
            "confidence": pa.array(self.confidence, pa.float32(), mask=~answered),
        }
        for number, name in enumerate(self.classes):
            columns[f"{PROBABILITY_PREFIX}{name}"] = pa.array(self.probabilities[:, number], pa.float32(), ~answered)
        below = below_confidence(min_confidence)
        reasons = zip(unsure.tolist(), self._reasons(answered), strict=True)
        columns["reason"] = pa.array([below if is_unsure else reason for is_unsure, reason in reasons], pa.string())
        if self.unlike is not None:
            columns |= unlike_columns(self.unlike, answered)
        return pa.table(columns, metadata=FORMAT_METADATA)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the answers as a pandas data frame with the columns of `to_table`.

        Raises:
            FastcellError: pandas is not installed.
        """
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise FastcellError(
                f"pandas must be installed for to_pandas(). Use to_table(), which needs none. {install_hint('pandas')}"
            ) from None
        return self.to_table().to_pandas()

    def _reasons(self, answered: np.ndarray) -> list[str | None]:
        given: Sequence[str | None] = [None] * len(self) if self.reasons is None else self.reasons
        return [reason or (None if good else NOT_FINITE) for reason, good in zip(given, answered.tolist(), strict=True)]

    def __repr__(self) -> str:
        found = sorted(self.counts().items(), key=lambda pair: -pair[1])
        shown = [f"{printable(name)} {count:,}" for name, count in found[:_MOST_CLASSES_SHOWN]]
        shown += ["..."] if len(found) > _MOST_CLASSES_SHOWN else []
        if missing := int((~self.answered).sum()):
            shown.append(f"without an answer {missing:,}")
        if self.unlike_training is not None:
            shown.append(f"unlike training {int(np.sum(self.unlike_training)):,}")
        return f"<{type(self).__name__}: {len(self):,} cells; {', '.join(shown)}>"

    def _repr_html_(self) -> str:
        table = self.to_table().slice(0, _MOST_ROWS_SHOWN)
        kept = [name for name in table.column_names if table.column(name).null_count < table.num_rows]
        rows = [[_cell_text(row[name]) for name in kept] for row in table.select(kept).to_pylist()]
        head = "".join(f"<th>{html_text(name)}</th>" for name in kept)
        body = "".join("<tr>" + "".join(f"<td>{html_text(text)}</td>" for text in row) + "</tr>" for row in rows)
        more = f"<p>{len(self) - len(rows):,} more rows</p>" if len(self) > len(rows) else ""
        about = html_text(repr(self)[1:-1])
        return f"<p>{about}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell_text(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
