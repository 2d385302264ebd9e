"""Adjustment of p-values for multiple tests."""

from __future__ import annotations

import numpy as np


def holm(p_values: list[float]) -> list[float]:
    """Adjust p-values for the number of tests by Holm's method; NaN (not tested) remains NaN and is not counted."""
    values = np.array(p_values, dtype=np.float64)
    order = [int(i) for i in np.argsort(values) if not np.isnan(values[i])]
    adjusted, highest = values.copy(), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, values[index] * (len(order) - rank)))
        adjusted[index] = highest
    return adjusted.tolist()
