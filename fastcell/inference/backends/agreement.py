"""Agreement of a backend with torch in 32 bits on the labelled cells of a run's validation subset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

LEAST_SAME = 0.995
"""Smallest share of cells that must get the same class as from torch."""

MOST_LOSS = 0.01
"""Largest acceptable loss of balanced accuracy, at the upper end of its 95 % interval."""


@dataclass(frozen=True)
class Agreement:
    """Comparison of a backend with torch on the same cells and weights.

    Attributes:
        num_cells: number of cells.
        num_same: number of cells with the same most probable class.
        loss: balanced accuracy of torch minus that of the backend.
        low, high: 95 % interval of `loss`.
        by: unit of resampling behind the interval: ``cell`` or ``group``.
        largest: largest absolute difference of a probability.
    """

    num_cells: int
    num_same: int
    loss: float
    low: float
    high: float
    by: str
    largest: float

    @property
    def share_same(self) -> float:
        """Share of cells with the same class."""
        return self.num_same / self.num_cells

    @property
    def agrees(self) -> bool:
        """Whether the backend may replace torch without being requested by name."""
        return not self.obstacle()

    def obstacle(self) -> str:
        """Return the reason why the backend may not replace torch, as part of a sentence; empty if it may."""
        if self.share_same < LEAST_SAME:
            return (
                f"{self.share_same:.2%} of {self.num_cells:,} cells get the same class as from torch, and at least "
                f"{LEAST_SAME:.1%} must"
            )
        if self.high >= MOST_LOSS:
            return (
                f"on {self.num_cells:,} validation cells, a loss of up to {100 * self.high:.1f} points of balanced "
                f"accuracy cannot be excluded, and it must be below {100 * MOST_LOSS:.0f}"
            )
        return ""

    def describe(self) -> str:
        """Return the comparison in one line."""
        return (
            f"same class as torch on {self.share_same:.2%} of {self.num_cells:,} validation cells, balanced accuracy "
            f"{-100 * self.loss:+.2f} points ({-100 * self.high:+.2f} to {-100 * self.low:+.2f})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Agreement:
        """Create it from the result of `to_json`.

        Raises:
            KeyError, TypeError: a value is missing.
        """
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


def compare(labels: np.ndarray, expected: np.ndarray, found: np.ndarray, groups: np.ndarray | None = None) -> Agreement:
    """Compare the probabilities of a backend with those of torch.

    Args:
        labels: (N,) int64, true classes; N >= 1.
        expected, found: (N, K) float32, probabilities of torch and of the backend.
        groups: (N,) names of the cells' groups, or None.
    """
    from fastcell.stats.recall_difference import recall_difference  # scipy, which a prepared backend does without

    reference, called = expected.argmax(axis=1), found.argmax(axis=1)
    finite = np.isfinite(found).all(axis=1)
    called = np.where(finite, called, -1)
    loss = recall_difference(labels, reference, called, groups)
    largest = float(np.abs(found - expected)[finite].max(initial=0.0)) if finite.any() else 1.0
    return Agreement(len(labels), int((reference == called).sum()), loss.value, loss.low, loss.high, loss.by, largest)
