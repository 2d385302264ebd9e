"""Permutation tests of what a linear classifier reads: how well, how well by chance, and how surely more than that.

The classifier is linear discriminant analysis with equal priors, written so that fitting it anew to permuted labels
costs one pass over the cells: features are whitened once by their covariance over all cells (Ledoit and Wolf's
shrinkage, doi 10.1016/S0047-259X(03)00096-4), which no label enters, and a cell is given to the class whose mean over
the *other* folds is nearest. For two classes this is scikit-learn's ``LinearDiscriminantAnalysis`` with the same
shrinkage of the total covariance.

Every permutation fits again. Permuting labels against finished out-of-fold predictions would be no chance level: it
forgets what the fit itself makes of noise, and where cells come in groups it forgets that cells of a group are alike.
What is permuted is a design: label *and* fold of a unit move together, units move only within their stratum. So the
folds may be stratified by label and the test is exact all the same, as long as units of a stratum are exchangeable
where there is nothing to read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

PERMUTATIONS = 500
"""Permutations of each test of an audit. The least p is 1 / (R + 1)."""
LEAST_PERMUTATIONS = 20


@dataclass(frozen=True)
class Design:
    """Which cell counts as what, which cells are held out together, and what may be exchanged under no effect.

    Attributes:
        rows: (n,) int64, the cells in it, as positions in the sample.
        labels: (n,) int64, 0 to K - 1, each of them there.
        folds: (n,) int64 from 0.
        units: (n,) int64 from 0, cells of one unit are exchanged as one; label, fold and stratum are theirs.
        strata: (n,) int64 from 0, units are exchanged within a stratum only.
        centered: whether the mean of each stratum is taken from the features first.
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
        """(U,) label, fold and stratum of each unit."""
        _, first = np.unique(self.units, return_index=True)
        return self.labels[first], self.folds[first], self.strata[first]

    def num_arrangements(self) -> float:
        """How many ways there are to hand out the labels within the strata; at most 1e300."""
        labels, _, strata = self.unit_columns()
        log = 0.0
        for stratum in np.unique(strata):
            counts = np.bincount(labels[strata == stratum])
            log += math.lgamma(counts.sum() + 1) - sum(math.lgamma(count + 1) for count in counts)
        return math.exp(min(log, 690.0))


@dataclass(frozen=True)
class Outcome:
    """One permutation test.

    Attributes:
        number: the statistic, e.g. balanced accuracy over held-out folds.
        chance: its mean over the permutations.
        chance_high: its 95 % point over the permutations.
        p: share of permutations that reach it, (1 + hits) / (1 + permutations); NaN where nothing can be permuted.
        least_p: that it could have been at best.
        num_permutations: R.
        most: the number of a perfect answer.
        best: of the label that is told best, the share found less the share of others taken for it, beyond the 95 %
            point of the same under permutation; -inf where not looked at. For two labels this is the skill.
        best_label: which label that is; -1 for none.
    """

    number: float
    chance: float
    chance_high: float
    p: float
    least_p: float
    num_permutations: int
    most: float = 1.0
    best: float = -math.inf
    best_label: int = -1

    @property
    def skill(self) -> float:
        """Share of the way from what chance hardly reaches, its 95 % point (0), to a perfect answer (1).

        Of many labels perhaps one alone is told: then its own share counts.
        """
        return max((self.number - self.chance_high) / max(self.most - self.chance_high, 1e-9), self.best)


def outcome(number: float, null: Floats, arrangements: float = math.inf, most: float = 1.0) -> Outcome:
    """Outcome of a statistic (large is more) and its values `null` (R,) under permutation."""
    values = np.asarray(null, dtype=np.float64)
    if not len(values) or arrangements < 2:
        return Outcome(float(number), float("nan"), float("nan"), float("nan"), 1.0, 0, most)
    # Summed in another order the same arrangement may differ in the last bit.
    hits = int((values >= number - 1e-9 * max(1.0, abs(number))).sum())
    least = max(1 / (1 + len(values)), 1 / arrangements)
    p = (1 + hits) / (1 + len(values))
    return Outcome(float(number), float(values.mean()), float(np.quantile(values, 0.95)), p, least, len(values), most)


def permutation_test(features: Floats, design: Design, permutations: int, rng: np.random.Generator) -> Outcome:
    """How well the features tell the design's labels in folds that were not fitted to, and how well by chance.

    Args:
        features: (N, p) of the whole sample; the design's rows are taken.
        design: at least two labels and two folds.
        permutations: R >= 0.
        rng: of the permutations.

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
    """`held_out_rates` (2, K) of the design, and (R, 2, K) under permutation. Arguments as `permutation_test`."""
    values = whiten(features[design.rows], design.strata if design.centered else None)
    labels, folds, strata = design.unit_columns()
    rates = held_out_rates(values, design.labels, design.folds)
    null = np.empty((permutations, *rates.shape))
    for turn in range(permutations):
        order = permute_within(strata, rng)
        null[turn] = held_out_rates(values, labels[order][design.units], folds[order][design.units])
    return rates, null


def held_out_rates(values: Floats, labels: Ints, folds: Ints) -> Floats:
    """Of each label the share of its cells that are called it, and the share of other cells that are: (2, K).

    A cell is called the label whose mean over the other folds is nearest.

    Args:
        values: (n, p) whitened features.
        labels: (n,) 0 to K - 1.
        folds: (n,) from 0.
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
    fitted = per_fold.sum(0) - per_fold  # (F, K) cells that the means of a fold come from
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
    """Features (n, p) of mean 0 and, but for shrinkage, unit covariance; constant ones are left out.

    strata: (n,), whose means are taken out first; None: the mean of all.
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
    """Values (n, p) less the mean of their stratum (n,)."""
    num = int(strata.max(initial=-1)) + 1
    order = np.argsort(strata, kind="stable")
    counts = np.bincount(strata, minlength=num)
    there = np.flatnonzero(counts)
    means = np.zeros((num, values.shape[1]))
    means[there] = np.add.reduceat(values[order], (np.cumsum(counts) - counts)[there], axis=0)
    means /= np.maximum(counts, 1)[:, None]
    return values - means[strata]


def permute_within(strata: Ints, rng: np.random.Generator) -> Ints:
    """A random order of (n,) places in which each place holds one of its own stratum."""
    places = np.argsort(strata, kind="stable")
    order = np.empty(len(strata), np.int64)
    order[places] = np.lexsort((rng.random(len(strata)), strata))
    return order


def permute_table(table: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw a table (R, C) int64 of the same totals, as if rows were dealt to columns at random."""
    left = table.sum(1)
    drawn = np.empty_like(table)
    for place, total in enumerate(table.sum(0).tolist()):
        drawn[:, place] = rng.multivariate_hypergeometric(left, total, method="marginals")
        left = left - drawn[:, place]
    return drawn


def normal_scores(features: Floats) -> npt.NDArray[np.float64]:
    """Each column of (n, p) by the normal quantile of its ranks: outliers and skewness gone, ties alike."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    values = np.asarray(features, dtype=np.float64)
    if not values.size:
        return values.reshape(len(values), -1)
    return ndtri((rankdata(values, axis=0) - 0.5) / len(values))


def with_squares(features: Floats) -> npt.NDArray[np.float64]:
    """Normal scores of (n, p) and their squares, (n, 2 p): a class in the middle of two others is found too."""
    scores = normal_scores(features)
    return np.hstack([scores, scores**2])
