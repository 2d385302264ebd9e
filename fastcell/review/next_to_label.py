"""Active learning: choose the cells to label next, and describe the progress of labelling.

The mixture gives each predicted class a share of the chosen cells, which decreases with the number of its labels. The
most uncertain cells of each class are candidates, and cells far from each other and from the labelled cells are chosen
among them (greedy k-centre: Sener and Savarese, ICLR 2018, arXiv 1708.00489).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

ChoiceName = Literal["mixture", "uncertainty", "diversity", "random"]

_CANDIDATES = 10  # per cell that is chosen
_MOST_CENTRES = 5_000
_LEAST_OF_CLASS = 2
_FOLDS = 5


class LearnerAnswers(NamedTuple):
    """Predictions of a model that was fitted to the labels in the page.

    Attributes:
        probabilities: (N, K) float32, NaN for cells without an embedding.
        agreement: share of labelled cells whose class is predicted in cross-validation; NaN with too few cells.
        num_compared: number of these cells.
    """

    probabilities: npt.NDArray[np.float32]
    agreement: float
    num_compared: int


def choose_next(
    candidates: npt.NDArray[np.int64],
    num: int,
    how: ChoiceName,
    *,
    probabilities: npt.NDArray[np.float32] | None,
    values: npt.NDArray[np.float32] | None,
    labelled: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64] | None = None,
    seed: int = 0,
) -> npt.NDArray[np.int64]:
    """Choose cells to label next.

    Args:
        candidates: (n,) int64, cells without a label.
        num: number of cells to choose; fewer are returned if there are fewer candidates.
        how: method of choosing. Without probabilities the mixture is diversity, without an embedding it is uncertainty;
            without either the choice is random.
        probabilities: (N, K) float32 of a model; NaN for unknown.
        values: (N, D) float32, embedding; NaN for unknown.
        labelled: (l,) int64, cells with a label.
        counts: (K,) int64, labelled cells of each class of the model; None if unknown.
        seed: seed of random choices.

    Returns:
        (m,) int64, different cells in descending order of priority.
    """
    rng = np.random.default_rng(seed)
    candidates = rng.permutation(candidates)  # ties are broken at random
    num = min(num, len(candidates))
    if probabilities is None and how in ("mixture", "uncertainty"):
        how = "diversity" if how == "mixture" else "random"
    if values is None and how in ("mixture", "diversity"):
        how = "uncertainty" if probabilities is not None else "random"
    if num == 0 or how == "random":
        return candidates[:num]
    if how == "diversity":
        assert values is not None
        most = rng.permutation(candidates)[: max(_CANDIDATES * num, 2_000)]
        return k_centre(values, most, labelled, num, rng)
    assert probabilities is not None
    doubt = uncertainty(probabilities[candidates])
    ranked = candidates[np.argsort(-doubt, kind="stable")]
    if how == "uncertainty":
        return ranked[:num]
    assert values is not None
    called = np.nan_to_num(probabilities[ranked], nan=-1).argmax(1)
    shares = class_shares(called, num, counts, probabilities.shape[1])
    chosen: list[npt.NDArray[np.int64]] = []
    for label in np.flatnonzero(shares).tolist():
        mine = ranked[called == label][: _CANDIDATES * int(shares[label])]
        chosen.append(k_centre(values, mine, np.concatenate([labelled, *chosen]), int(shares[label]), rng))
    found = np.concatenate(chosen)
    return found[np.argsort(-uncertainty(probabilities[found]), kind="stable")]


def uncertainty(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return 1 minus the margin between the two most probable classes, (n,); 1 if the probabilities are unknown."""
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities))
    two = np.sort(np.partition(probabilities, -2, axis=1)[:, -2:], axis=1)
    return np.nan_to_num(1.0 - (two[:, 1] - two[:, 0]).astype(np.float64), nan=1.0)


def class_shares(
    called: npt.NDArray[np.int64], num: int, counts: npt.NDArray[np.int64] | None, num_classes: int
) -> npt.NDArray[np.int64]:
    """Return the number of cells to choose of each predicted class, (K,) int64, `num` in total.

    Cells are assigned one by one to the class with the fewest labels so far that still has a candidate.

    Args:
        called: (n,) int64, class of each candidate; n >= `num`.
        num: number of cells.
        counts: (K,) int64, labelled cells of each class; None counts as none.
        num_classes: K.
    """
    there = np.bincount(called, minlength=num_classes)
    have = np.zeros(num_classes, np.int64) if counts is None else counts.astype(np.int64).copy()
    given = np.zeros(num_classes, np.int64)
    for _ in range(num):
        open_ = np.flatnonzero(given < there)
        label = open_[np.argmin(have[open_])]
        given[label] += 1
        have[label] += 1
    return given


def k_centre(
    values: npt.NDArray[np.float32],
    candidates: npt.NDArray[np.int64],
    centres: npt.NDArray[np.int64],
    num: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Choose cells one after another, each the farthest from all centres and all cells chosen before.

    Args:
        values: (N, D) float32; a cell with NaN is chosen last.
        candidates: (n,) int64.
        centres: (c,) int64; of more than 5,000, a random 5,000 are used.
        num: number of cells, at most n.
        rng: generator of the draw.
    """
    good = np.isfinite(values[candidates]).all(1)
    usable, rest = candidates[good], candidates[~good]
    centres = centres[np.isfinite(values[centres]).all(1)]
    if len(centres) > _MOST_CENTRES:
        centres = rng.choice(centres, _MOST_CENTRES, replace=False)
    points = values[usable].astype(np.float64)
    distance = np.full(len(usable), np.inf)
    for begin in range(0, len(centres), 256):
        part = values[centres[begin : begin + 256]].astype(np.float64)
        squares = (points**2).sum(1)[:, None] + (part**2).sum(1) - 2 * points @ part.T
        distance = np.minimum(distance, squares.min(1))
    chosen: list[int] = []
    while len(chosen) < min(num, len(usable)):
        place = int(np.argmax(distance))
        chosen.append(place)
        distance = np.minimum(distance, np.square(points - points[place]).sum(1))
        distance[place] = -np.inf
    return np.concatenate([usable[chosen], rest[: num - len(chosen)]])


def fit_learner(
    values: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], num_classes: int
) -> LearnerAnswers | None:
    """Fit a logistic regression to labelled cells in the embedding; None if fewer than two classes have labels.

    Args:
        values: (N, D) float32.
        rows: (l,) int64, labelled cells.
        labels: (l,) int64, their classes.
        num_classes: K.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    good = np.isfinite(values[rows]).all(1)
    rows, labels = rows[good], labels[good]
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2_000))
    model.fit(values[rows], labels)
    probabilities = np.full((len(values), num_classes), np.nan, np.float32)
    known = np.isfinite(values).all(1)
    found = np.zeros((int(known.sum()), num_classes), np.float32)
    found[:, present] = model.predict_proba(values[known])
    probabilities[known] = found
    several = np.isin(labels, present[counts >= _LEAST_OF_CLASS])
    agreement, compared = float("nan"), 0
    if len(np.unique(labels[several])) >= 2:
        least = int(counts[counts >= _LEAST_OF_CLASS].min())
        folds = StratifiedKFold(min(_FOLDS, least), shuffle=True, random_state=0)
        called = cross_val_predict(model, values[rows[several]], labels[several], cv=folds)
        agreement, compared = float((called == labels[several]).mean()), int(several.sum())
    return LearnerAnswers(probabilities, agreement, compared)
