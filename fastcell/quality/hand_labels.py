"""Labels by hand: reading them from a CSV, and a logistic regression fitted to them and calibrated on them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.tables.read_table import read_text_columns
from fastcell.errors import DataError
from fastcell.quality.drop_threshold import Threshold, calibrate
from fastcell.quality.features import FEATURES
from fastcell.quality.verdicts_file import find_cells

LEAST_LABELS = 20
"""Smallest number of good cells, and of bad cells, to which a model is fitted."""

_GOOD_WORDS, _BAD_WORDS = ("good", "keep"), ("bad", "drop")
_UNCLEAR = ("ok", "okay", "fine", "yes", "no", "true", "false")  # would be read as reasons and so count as bad
_LEAST_OF_KIND = 5
_FOLDS = 5
# These features describe the recording or the cell, not the quality of the image.
_LEFT_OUT = ("height", "width", "mean_intensity", "background")


class HandLabels(NamedTuple):
    """Labels that a person gave to some cells.

    Attributes:
        cell_ids: (n,) int64, each once.
        kinds: (n,) str: ``good``, ``bad``, or the reason for bad.
    """

    cell_ids: npt.NDArray[np.int64]
    kinds: np.ndarray

    @property
    def bad(self) -> npt.NDArray[np.bool_]:
        """True for each bad cell, (n,) bool."""
        return self.kinds != "good"


class Learned(NamedTuple):
    """Scores and threshold of a model fitted to labels.

    Attributes:
        scores: (N,) float64 of all cells, 0 to 1; NaN if the features are NaN.
        reasons: (N,) str, most likely kind of bad cell.
        threshold: score from which a cell is dropped.
        bad_passed, num_bad: labelled bad cells below the threshold in cross-validation, and all labelled bad cells.
        good_dropped, num_good: labelled good cells that reach the threshold in cross-validation, and all labelled good
            cells.
    """

    scores: np.ndarray
    reasons: np.ndarray
    threshold: Threshold
    bad_passed: int
    num_bad: int
    good_dropped: int
    num_good: int


def read_hand_labels(path: Path, manifest: Manifest) -> HandLabels:
    """Read labels from a CSV.

    Args:
        path: CSV with ``cell_id`` or ``key``, and ``label``: good, bad, or a reason in one or two words. A table with
            ``verdict`` (keep, drop) and ``reason`` instead, such as an edited ``review.csv``, can also be read.
        manifest: the data set.

    Raises:
        DataError: the file cannot be read, a column is missing, a row does not name a cell of the data set, or a label
            is empty or ambiguous, such as a number.
    """
    table = read_text_columns(path, ("cell_id", "key", "label", "verdict", "reason"))
    name = next((name for name in ("label", "verdict") if name in table.column_names), None)
    if name is None:
        raise DataError(f"{path} must have a column label. Add it, with good, bad, or a reason.")
    words = [(word or "").strip().lower() for word in table.column(name).to_pylist()]
    reasons = [""] * len(words)
    if name == "verdict" and "reason" in table.column_names:
        reasons = [(word or "").strip().lower() for word in table.column("reason").to_pylist()]
    for row, word in enumerate(words):
        unclear = word in _UNCLEAR or not any(sign.isalpha() for sign in word)
        if unclear or (name == "verdict" and word not in ("keep", "drop")):
            rule = "good, bad or a reason" if name == "label" else "keep or drop"
            raise DataError(f"{path}: {name} must be {rule}, got {word!r} in line {row + 2:,}. Correct the line.")
    kinds = [
        "good" if word in _GOOD_WORDS else (reason or "bad") if word in _BAD_WORDS else word[:60]
        for word, reason in zip(words, reasons, strict=True)
    ]
    return HandLabels(find_cells(table, manifest, path), np.array(kinds, dtype=object))


def can_learn(labels: HandLabels, features: npt.NDArray[np.float32]) -> bool:
    """Return True if enough readable good and bad cells are labelled to fit a model."""
    readable = np.isfinite(features[labels.cell_ids]).all(1)
    return bool(min((labels.bad & readable).sum(), (~labels.bad & readable).sum()) >= LEAST_LABELS)


def learn(
    labels: HandLabels, features: npt.NDArray[np.float32], hints: npt.NDArray[np.float64], most_passed: float
) -> Learned:
    """Fit a logistic regression to labelled cells and score all cells with it.

    Good and bad cells get equal total weight, whatever their numbers. The threshold comes from five-fold
    cross-validation.

    Args:
        labels: labels for which `can_learn` is True.
        features: (N, F) of all cells.
        hints: (N, H) further finite numbers about each cell, such as scores of other models.
        most_passed: largest share of bad cells that may pass, as in `calibrate`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    columns = [place for place, name in enumerate(FEATURES) if name not in _LEFT_OUT]
    known = np.concatenate([features[:, columns], hints], 1).astype(np.float64)
    readable = np.asarray(np.isfinite(known).all(axis=1))
    mine = readable[labels.cell_ids]
    rows, kinds = labels.cell_ids[mine], labels.kinds[mine].astype(str)
    counts = Counter(kinds.tolist())
    kinds = np.array([kind if kind == "good" or counts[kind] >= _LEAST_OF_KIND else "bad" for kind in kinds])
    if Counter(kinds.tolist())["bad"] in range(1, _LEAST_OF_KIND):  # too few for a kind of their own
        largest = Counter(kinds[~np.isin(kinds, ("good", "bad"))].tolist()).most_common(1)[0][0]
        kinds[kinds == "bad"] = largest
    bad = kinds != "good"
    weight = np.where(bad, 0.5 / bad.mean(), 0.5 / (~bad).mean())
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=5_000))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    fitting = {"logisticregression__sample_weight": weight}
    names = np.unique(kinds)
    good = int(np.searchsorted(names, "good"))
    unseen = 1 - cross_val_predict(
        model, known[rows], kinds, cv=folds, method="predict_proba", params=fitting
    )[:, good]  # fmt: skip
    threshold = calibrate(unseen[bad], int(bad.sum()), most_passed)
    model.fit(known[rows], kinds, **fitting)
    scores, reasons = np.full(len(known), np.nan), np.full(len(known), "", dtype=object)
    shares = model.predict_proba(known[readable])
    scores[readable] = 1 - shares[:, good]
    shares[:, good] = -1
    reasons[readable] = names[shares.argmax(1)]
    return Learned(
        scores,
        reasons,
        threshold,
        int((unseen[bad] < threshold.score).sum()),
        int(bad.sum()),
        int((unseen[~bad] >= threshold.score).sum()),
        int((~bad).sum()),
    )
