"""Permutation tests: how well a linear classifier predicts labels from features, compared with chance.

The classifier is linear discriminant analysis with equal priors. It is written so that a refit to permuted labels costs
one pass over the cells. The features are whitened once with their covariance over all cells (Ledoit and Wolf's
shrinkage, doi 10.1016/S0047-259X(03)00096-4), which does not depend on the labels. Each cell is then assigned to the
class whose mean over the *other* folds is nearest. For two classes this equals scikit-learn's
``LinearDiscriminantAnalysis`` with the same shrinkage of the total covariance.

The classifier is refitted for every permutation. Permuting the labels against fixed out-of-fold predictions would not
give a valid chance level: it ignores that the fit adapts to noise, and that cells of one group resemble each other.

A `Design` defines the permutation. The label *and* the fold of a unit move together, and units move only within their
stratum. The folds may therefore be stratified by label and the test is still exact, provided that the units of a
stratum are exchangeable under the null hypothesis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

PERMUTATIONS = 500
"""Number of permutations for each test of an audit, R. The smallest possible p is 1 / (R + 1)."""
LEAST_PERMUTATIONS = 20


@dataclass(frozen=True)
class Design:
    """Labels, folds and exchangeable units of a permutation test.

    Attributes:
        rows: (n,) int64, the cells of the test, as positions in the sample.
        labels: (n,) int64, 0 to K - 1; each value occurs.
        folds: (n,) int64 from 0.
        units: (n,) int64 from 0. The cells of a unit are exchanged together and share label, fold and stratum.
        strata: (n,) int64 from 0. Units are exchanged only within a stratum.
        centered: if True, subtract the mean of each stratum from the features first.
    """

    rows: Ints
    labels: Ints
    folds: Ints
    units: Ints
    strata: Ints
    centered: bool = False

    @property
    def num_classes(self) -> int:
        return int(self.labels.max(initial=-1)) + 1

    def unit_columns(self) -> tuple[Ints, Ints, Ints]:
        """Return the label, fold and stratum of each unit, (U,) each."""
        _, first = np.unique(self.units, return_index=True)
        return self.labels[first], self.folds[first], self.strata[first]

    def num_arrangements(self) -> float:
        """Return the number of ways to assign the labels within the strata; at most 1e300."""
        labels, _, strata = self.unit_columns()
        log = 0.0
        for stratum in np.unique(strata):
            counts = np.bincount(labels[strata == stratum])
            log += math.lgamma(counts.sum() + 1) - sum(math.lgamma(count + 1) for count in counts)
        return math.exp(min(log, 690.0))


@dataclass(frozen=True)
class Outcome:
    """Result of one permutation test.

    Attributes:
        number: the statistic, e.g. balanced accuracy over held-out folds.
        chance: mean of the statistic over the permutations.
        chance_high: 95 % point of the statistic over the permutations.
        p: (1 + permutations that reach the statistic) / (1 + permutations); NaN if nothing can be permuted.
        least_p: smallest p that the test could give.
        num_permutations: R.
        best: largest difference over the labels between recall and false-positive rate, minus the 95 % point of this
            difference under permutation; -inf if not computed. With two labels it equals 2 * (number - chance_high).
        best_label: label with that largest difference; -1 for none.
    """

    number: float
    chance: float
    chance_high: float
    p: float
    least_p: float
    num_permutations: int
    best: float = -math.inf
    best_label: int = -1

    @property
    def skill(self) -> float:
        """Position of the statistic between its 95 % point under permutation (0) and perfect predictions (1).

        If only one of many labels can be predicted, the mean over labels hides it. The larger of this position and
        `best` is therefore returned.
        """
        return max((self.number - self.chance_high) / max(1 - self.chance_high, 1e-9), self.best)


def outcome(number: float, null: Floats, arrangements: float = math.inf) -> Outcome:
    """Build the outcome of a statistic from its values under permutation.

    Args:
        number: the statistic; larger values mean a larger effect.
        null: (R,), values under permutation.
        arrangements: number of distinct permutations.
    """
    values = np.asarray(null, dtype=np.float64)
    if not len(values) or arrangements < 2:
        return Outcome(float(number), float("nan"), float("nan"), float("nan"), 1.0, 0)
    # The same arrangement, summed in another order, may differ in the last bit.
    hits = int((values >= number - 1e-9 * max(1.0, abs(number))).sum())
    least = max(1 / (1 + len(values)), 1 / arrangements)
    p = (1 + hits) / (1 + len(values))
    return Outcome(float(number), float(values.mean()), float(np.quantile(values, 0.95)), p, least, len(values))


def permutation_test(features: Floats, design: Design, permutations: int, rng: np.random.Generator) -> Outcome:
    """Test how well the features predict the design's labels in held-out folds.

    Args:
        features: (N, p) of the whole sample; the design selects its rows.
        design: design with at least two labels and two folds.
        permutations: R >= 0.
        rng: generator for the permutations.

    Returns:
        Balanced accuracy (mean recall over the labels) and its chance level.
    """
    rates, null = permuted_rates(features, design, permutations, rng)
    found = outcome(rates[0].mean(), null[:, 0].mean(1), design.num_arrangements())
    if math.isnan(found.p):
        return found
    surplus, by_chance = rates[0] - rates[1], (null[:, 0] - null[:, 1]).max(1)
    best = float(surplus.max() - np.quantile(by_chance, 0.95))
    return replace(found, best=best, best_label=int(surplus.argmax()))


def permuted_rates(
    features: Floats, design: Design, permutations: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Compute `held_out_rates` (2, K) of the design, and (R, 2, K) under permutation.

    The arguments are those of `permutation_test`.
    """
    values = whiten(features[design.rows], design.strata if design.centered else None)
    labels, folds, strata = design.unit_columns()
    rates = held_out_rates(values, design.labels, design.folds)
    null = np.empty((permutations, *rates.shape))
    for turn in range(permutations):
        order = permute_within(strata, rng)
        null[turn] = held_out_rates(values, labels[order][design.units], folds[order][design.units])
    return rates, null


def held_out_rates(values: Floats, labels: Ints, folds: Ints) -> Floats:
    """Compute the recall and the false-positive rate of each label on held-out folds.

    Each cell is assigned to the label whose mean over the other folds is nearest.

    Args:
        values: (n, p) whitened features.
        labels: (n,) 0 to K - 1.
        folds: (n,) from 0.

    Returns:
        (2, K): recall, then false-positive rate, of each label.
    """
    num, num_folds = int(labels.max()) + 1, int(folds.max()) + 1
    codes = folds * num + labels
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=num * num_folds)
    ends = np.cumsum(counts)
    sorted_values, sums = values[order], np.zeros((num_folds * num, values.shape[1]))
    there = np.flatnonzero(counts)
    sums[there] = np.add.reduceat(sorted_values, (ends - counts)[there], axis=0, dtype=np.float64)
    by_fold, per_fold = sums.reshape(num_folds, num, -1), counts.reshape(num_folds, num)
    fitted = per_fold.sum(0) - per_fold  # (F, K) number of cells in the means used for each fold
    means = ((by_fold.sum(0) - by_fold) / np.maximum(fitted, 1)[:, :, None]).astype(values.dtype)
    offsets = np.where(fitted > 0, 0.5 * np.einsum("fkp,fkp->fk", means, means), np.inf)
    confusion = np.zeros(num * num)
    sorted_labels = labels[order]
    bounds = np.concatenate([[0], ends[num - 1 :: num]])
    for fold in range(num_folds):
        part = slice(bounds[fold], bounds[fold + 1])
        if part.stop > part.start:
            called = np.argmax(sorted_values[part] @ means[fold].T - offsets[fold], axis=1)
            confusion += np.bincount(sorted_labels[part] * num + called, minlength=num * num)
    table = confusion.reshape(num, num)
    support, hits = table.sum(1), np.diagonal(table)
    others = len(labels) - support
    return np.stack([hits / np.maximum(support, 1), (table.sum(0) - hits) / np.maximum(others, 1)])


def whiten(features: Floats, strata: Ints | None = None) -> npt.NDArray[np.float32]:
    """Transform features to mean 0 and, except for shrinkage, unit covariance; constant features are removed.

    Args:
        features: (n, p).
        strata: (n,), strata whose means are subtracted first; None subtracts the overall mean only.

    Returns:
        (n, q) float32, q <= p; a single column of zeros if no feature varies.
    """
    from sklearn.covariance import ledoit_wolf

    values = np.asarray(features, dtype=np.float64)
    values = values - values.mean(0)
    scale = values.std(0)
    kept = scale > 1e-9
    values = values[:, kept] / scale[kept]
    if strata is not None:
        values = np.asarray(center(values, strata), np.float64)
        left = values.std(0) > 1e-6
        values = values[:, left]
    if not values.shape[1]:
        return np.zeros((len(values), 1), np.float32)
    covariance, _ = ledoit_wolf(values, assume_centered=True)
    spread, axes = np.linalg.eigh(covariance)
    good = spread > 1e-8 * spread.max()
    return np.ascontiguousarray(values @ (axes[:, good] / np.sqrt(spread[good])), dtype=np.float32)


def center(values: Floats, strata: Ints) -> Floats:
    """Subtract from values (n, p) the mean of their stratum (n,)."""
    num = int(strata.max(initial=-1)) + 1
    order = np.argsort(strata, kind="stable")
    counts = np.bincount(strata, minlength=num)
    there = np.flatnonzero(counts)
    means = np.zeros((num, values.shape[1]))
    means[there] = np.add.reduceat(values[order], (np.cumsum(counts) - counts)[there], axis=0)
    means /= np.maximum(counts, 1)[:, None]
    return values - means[strata]


def permute_within(strata: Ints, rng: np.random.Generator) -> Ints:
    """Return a random permutation of n positions in which each position gets one of its own stratum."""
    places = np.argsort(strata, kind="stable")
    order = np.empty(len(strata), np.int64)
    order[places] = np.lexsort((rng.random(len(strata)), strata))
    return order


def permute_table(table: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw a random (R, C) int64 table with the same row and column totals."""
    left = table.sum(1)
    drawn = np.empty_like(table)
    for place, total in enumerate(table.sum(0).tolist()):
        drawn[:, place] = rng.multivariate_hypergeometric(left, total, method="marginals")
        left = left - drawn[:, place]
    return drawn


def normal_scores(features: Floats) -> npt.NDArray[np.float64]:
    """Replace each column of (n, p) by the normal quantiles of its ranks.

    This removes outliers and skewness; equal values stay equal.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    values = np.asarray(features, dtype=np.float64)
    if not values.size:
        return values.reshape(len(values), -1)
    return ndtri((rankdata(values, axis=0) - 0.5) / len(values))


def with_squares(features: Floats) -> npt.NDArray[np.float64]:
    """Return the normal scores of (n, p) and their squares, (n, 2 p).

    The squares help to detect a class that lies between two others.
    """
    scores = normal_scores(features)
    return np.hstack([scores, scores**2])
