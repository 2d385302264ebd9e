"""Poor images as outliers of a set of cells, for sets that no model covers.

For each reason, the distance of a feature from the median of the set is measured in robust standard deviations: the
interquartile range over 1.349, with a lower limit so that small differences in a uniform set do not count. Only cells
at least `LIMIT` robust standard deviations from the median count as poor. A fault that most cells share is attributed
to the instrument or to the cropping.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcell.quality.features import FEATURES

LIMIT = 5.0
"""Number of robust standard deviations at which the score is 0.5."""
LEAST_COMPARED_CELLS = 20
FEATURELESS = 1.0
"""Contrast [grey levels] below which an image of any set counts as empty."""


def outlier_scores(features: npt.NDArray[np.float32]) -> tuple[np.ndarray, np.ndarray]:
    """Score each cell of a set as an outlier of the set.

    Args:
        features: (n, F), without NaN, of one instrument and setting.

    Returns:
        score: (n,) float64, 0 to 1: z^2 / (z^2 + LIMIT^2) of the strongest evidence z, 0.5 at the limit. The score is 1
            for an empty image. For fewer than `LEAST_COMPARED_CELLS` cells, that of all other images is 0.
        reason: (n,) str, reason of that evidence, empty without evidence: `empty`, `faint`, `cut`, `defocused`,
            `doublet` or `saturated`.
    """
    score, reason = np.zeros(len(features)), np.full(len(features), "", "<U9")
    if len(features) >= LEAST_COMPARED_CELLS:
        evidence = _evidence(features)
        strength = np.maximum(np.stack(list(evidence.values())), 0.0)
        best = strength.argmax(0)
        highest = strength.max(0)
        score = highest**2 / (highest**2 + LIMIT**2)
        reason = np.where(highest > 0, np.array(list(evidence))[best], "")
    nothing = features[:, FEATURES.index("contrast")] < FEATURELESS
    return np.where(nothing, 1.0, score), np.where(nothing, "empty", reason)


def _evidence(features: npt.NDArray[np.float32]) -> dict[str, np.ndarray]:
    """Return the evidence for each reason in robust standard deviations, (n,)."""
    column = {name: features[:, place].astype(np.float64) for place, name in enumerate(FEATURES)}
    faint = -_deviation(np.log10(column["contrast"] + 1), 0.05)
    nothing_there = (column["foreground"] == 0) & (np.median(column["foreground"]) > 0.02) & (faint > 0)
    # The variance of the Laplacian grows with the square of the contrast, which does not make an image sharper.
    fine = column["focus"] - 2 * np.log10(column["contrast"] + 1)
    usual = np.median(column["objects"]) == 1 and np.mean(column["objects"] > 1) < 0.25
    several = np.where((column["objects"] > 1) & usual, LIMIT * (0.75 + column["second_object"]), 0.0)
    necked = (column["neck"] >= 0.4) & (faint < 0.6 * LIMIT)
    saturated = np.maximum(column["saturated_low"], column["saturated_high"])
    return {
        "empty": np.where(nothing_there, faint + 0.5 * LIMIT, 0.0),
        "faint": faint,
        "cut": np.where(column["flat_side"] > 0.6, _deviation(column["border_contact"], 0.05), 0.0),
        # Require both: a large smooth cell is not blurred, and a small cell has few pixels with steep gradients.
        "defocused": np.minimum(-_deviation(column["sharpness"], 0.03), -_deviation(fine, 0.1)),
        "doublet": np.maximum(several, np.where(necked, -_deviation(column["solidity"], 0.01), 0.0)),
        "saturated": np.where(saturated > np.median(saturated) + 0.05, _deviation(saturated, 0.01), 0.0),
    }


def _deviation(values: np.ndarray, floor: float) -> np.ndarray:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return (values - middle) / max((high - low) / 1.349, floor)
