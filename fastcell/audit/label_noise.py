"""Label noise: share and list of the labels that a confident classifier contradicts.

If classes overlap, a classifier also errs, but with low confidence. The share of disagreement is therefore modelled as
a function of the margin, which is the log odds of the most likely class in cross-validation:

    P(disagree | margin) = r + (1 - r) / (1 + exp(a + b margin))

The logistic part describes overlap and vanishes at high confidence. The remainder r, the share of confident
disagreement, is the share of labels that no margin explains, like the lapse rate of a psychometric function (Wichmann
and Hill, doi 10.3758/BF03194544). Its chance level comes from labels simulated with r = 0, to which the model is fitted
again. The odds of the two parts order the disagreements.

Wrong labels raise r, but so do cells that look like another class to a classifier that is too sure of itself: r is not
the share of wrong labels, and raises a warning at most. Where the model does not describe the disagreement, no share is
given. To test this, the deviance is compared with those of labels that are simulated from the model and to which the
model is fitted again. ``benchmarks/answers.py`` plants swapped labels between overlapping and between distinct classes
of real cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastcell.stats.permutation import Floats, Ints, Outcome, outcome

NUM_CROSS_VALIDATION_FOLDS = 5
_NUM_BINS = 60
_NUM_FIT_CHECKS = 200
LEAST_FIT_P = 0.02
"""Smallest p of the model's deviance for which a share is given."""
_MOST_MARGIN = 12.0
_OVERLAP = ((0.0, 0.0), (0.0, -0.5))
_FREE = ((0.0, 0.0, -4.0), (0.0, -0.5, -7.0))
# ln of the smallest b; b is 1 for calibrated probabilities. With a flatter slope, wrong labels could not be
# distinguished from overlap.
_LEAST_SLOPE = math.log(0.5)
LEAST_LABELLED_CELLS = 200
LEAST_OF_CLASS = 10
LEAST_SKILL = 0.3
"""Smallest skill of the classifier, from 0 (chance) to 1 (perfect predictions), for which single labels are judged.

A classifier that hardly separates the classes is wrong at any confidence, whatever the labels are.
"""


@dataclass(frozen=True)
class LabelNoise:
    """Disagreement between labels and cross-validated predictions.

    Attributes:
        rows: (n,) int64, positions in the sample of the classified cells.
        given: (n,) int64, their labels.
        called: (n,) int64, most likely class.
        p_given, p_called: (n,) cross-validated probabilities of the label and of the most likely class.
        wrong: (n,) float64, share of confident disagreement among the disagreements of a cell's margin, 0 to 1; 0 if
            the classifier agrees.
        result: share of confident disagreement and its chance level.
        p_fit: p of the model's deviance; small if the model does not describe the disagreement.
        balanced_accuracy: balanced accuracy of the classifier, for comparison.
    """

    rows: Ints
    given: Ints
    called: Ints
    p_given: Floats
    p_called: Floats
    wrong: Floats
    result: Outcome
    balanced_accuracy: float
    p_fit: float = 1.0

    @property
    def separates_classes(self) -> bool:
        """True if the classifier separates the classes well enough to judge single labels."""
        chance = 1 / len(np.unique(self.given))
        return (self.balanced_accuracy - chance) / (1 - chance) >= LEAST_SKILL

    def candidates(self, least: float = 0.5) -> Ints:
        """Return the positions of the cells with `wrong` of `least` or more, the most confident disagreement first.

        The result is empty if the classifier does not separate the classes.
        """
        chosen = np.flatnonzero(self.wrong >= least) if self.separates_classes else np.zeros(0, np.int64)
        return chosen[np.lexsort((self.p_given[chosen], -self.wrong[chosen]))]


def find_label_noise(
    features: Floats, labels: Ints, permutations: int, rng: np.random.Generator, seed: int = 0
) -> LabelNoise | None:
    """Classify cells in cross-validation and estimate the share of confident disagreement.

    Args:
        features: (N, p), standardized by this function.
        labels: (N,) int64, -1 = none.
        permutations: R, number of simulated label sets without wrong labels.
        rng: generator for the simulated labels.
        seed: seed of the folds.

    Returns:
        The label noise, or None if fewer than two classes have 10 cells or fewer than 200 cells remain.
    """
    counts = np.bincount(labels[labels >= 0], minlength=1)
    rows = np.flatnonzero((labels >= 0) & (counts[np.maximum(labels, 0)] >= LEAST_OF_CLASS))
    classes, target = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2 or len(rows) < LEAST_LABELLED_CELLS:
        return None
    probabilities = cross_validate(features[rows], target, seed)
    called = probabilities.argmax(1)
    p_called, p_given = probabilities.max(1), probabilities[np.arange(len(rows)), target]
    disagree = called != target
    margins = np.clip(np.log(p_called) - np.log1p(-np.minimum(p_called, 1 - 1e-12)), 0, _MOST_MARGIN)
    number, share = _fit(margins, disagree)
    edges, total = _bins(margins)
    (_, a, b), expected = _fit_bins(
        edges, total, np.bincount(_place(margins, edges), disagree, len(total)).astype(np.float64), _OVERLAP
    )
    null = []
    for _ in range(permutations):
        drawn = rng.binomial(total.astype(np.int64), expected)
        null.append(_fit_bins(edges, total, drawn.astype(np.float64), ((a, np.log(b), -4.0),))[0][0])
    recalls = np.bincount(target[~disagree], minlength=len(classes)) / np.bincount(target)
    return LabelNoise(
        rows=rows,
        given=classes[target],
        called=classes[called],
        p_given=p_given,
        p_called=p_called,
        wrong=np.where(disagree, share, 0.0),
        result=outcome(number, np.array(null)),
        balanced_accuracy=float(recalls.mean()),
        p_fit=_check_fit(margins, disagree, rng),
    )


def cross_validate(features: Floats, target: Ints, seed: int = 0) -> Floats:
    """Return the probabilities (n, K) of each cell from classifiers that were fitted without its fold.

    A support vector machine would be more accurate, but logistic regression is calibrated by itself and takes seconds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    out = np.zeros((len(target), int(target.max()) + 1))
    folds = StratifiedKFold(NUM_CROSS_VALIDATION_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(features, target):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=400))
        model.fit(features[train], target[train])
        out[test] = model.predict_proba(features[test])
    return out


def _fit(margins: Floats, disagree: npt.NDArray[np.bool_]) -> tuple[float, Floats]:
    """Return the estimated share r of wrong labels, and (n,) the probability that the label is wrong.

    The probability applies to a disagreement at the margin of each cell.
    """
    edges, total = _bins(margins)
    place = _place(margins, edges)
    (rate, a, b), _ = _fit_bins(edges, total, np.bincount(place, disagree, len(total)).astype(np.float64))
    overlap = (1 - rate) / (1 + np.exp(a + b * margins))
    return rate, rate / np.maximum(rate + overlap, 1e-300)


def _check_fit(margins: Floats, disagree: npt.NDArray[np.bool_], rng: np.random.Generator) -> float:
    """Return the p-value of the deviance of the fitted model, from labels simulated with the model and fitted again."""
    edges, total = _bins(margins)
    wrong = np.bincount(_place(margins, edges), disagree, len(total)).astype(np.float64)
    (rate, a, b), share = _fit_bins(edges, total, wrong)
    start = ((a, np.log(b), np.log(max(rate, 1e-5) / (1 - min(rate, 0.99)))),)
    observed, exceeded = _deviance(total, wrong, share), 0
    for _ in range(_NUM_FIT_CHECKS):
        drawn = rng.binomial(total.astype(np.int64), share).astype(np.float64)
        exceeded += _deviance(total, drawn, _fit_bins(edges, total, drawn, start)[1]) >= observed
    return (1 + exceeded) / (1 + _NUM_FIT_CHECKS)


def _deviance(total: Floats, wrong: Floats, share: Floats) -> float:
    """Return twice the log-likelihood ratio of the bins' own shares to the model's."""
    from scipy.special import xlogy

    right = total - wrong
    own = xlogy(wrong, wrong / np.maximum(total, 1)) + xlogy(right, right / np.maximum(total, 1))
    return float(2 * (own - xlogy(wrong, share) - xlogy(right, 1 - share)).sum())


def _bins(margins: Floats) -> tuple[Floats, Floats]:
    edges = np.linspace(0, _MOST_MARGIN, _NUM_BINS + 1)
    return edges, np.bincount(_place(margins, edges), minlength=_NUM_BINS).astype(np.float64)


def _place(margins: Floats, edges: Floats) -> Ints:
    return np.clip(np.searchsorted(edges, margins, side="right") - 1, 0, _NUM_BINS - 1)


def _fit_bins(
    edges: Floats, total: Floats, wrong: Floats, starts: Sequence[tuple[float, ...]] = _FREE
) -> tuple[tuple[float, float, float], Floats]:
    """Fit (r, a, b), with b >= 0, by maximum likelihood, and return it with the expected share of disagreement by bin.

    `starts` holds (a, ln b) for a fit with r = 0, else (a, ln b, logit r).
    """
    from scipy.optimize import minimize

    middle, with_rate = 0.5 * (edges[:-1] + edges[1:]), len(starts[0]) == 3

    def parts(values: Floats) -> tuple[float, Floats, Floats]:
        rate = 1 / (1 + np.exp(-values[2])) if with_rate else 0.0
        shape = 1 / (1 + np.exp(np.clip(values[0] + np.exp(values[1]) * middle, -50, 50)))
        return rate, shape, np.clip(rate + (1 - rate) * shape, 1e-9, 1 - 1e-9)

    def cost(values: Floats) -> tuple[float, Floats]:
        rate, shape, share = parts(values)
        by_share = (total - wrong) / (1 - share) - wrong / share  # derivative of the cost
        slope = (1 - rate) * shape * (1 - shape) * by_share
        gradient = [-slope.sum(), -(slope * middle).sum() * np.exp(values[1])]
        if with_rate:
            gradient.append((by_share * (1 - shape)).sum() * rate * (1 - rate))
        fit = -float((wrong * np.log(share) + (total - wrong) * np.log1p(-share)).sum())
        return fit + 1e-6 * float(values @ values), np.array(gradient) + 2e-6 * values

    best = None
    for start in starts:
        bounds = [(-8, 8), (_LEAST_SLOPE, 3), (-12, 0)][: len(start)]
        found = minimize(cost, np.array(start), jac=True, method="L-BFGS-B", bounds=bounds)
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    rate, _, share = parts(best.x)
    return (float(rate), float(best.x[0]), float(np.exp(best.x[1]))), share
