"""Scores that `unlike.py` compares: methods to call a cell unlike those of training.

Each method returns, for measured training and validation cells, a function that scores cells; above 1 a cell is unlike.
"""

import numpy as np

from fastcell.inference.unlike.feature_names import NUM_SHAPE_FEATURES
from fastcell.inference.unlike.fit_training_cells import fit_training_cells

CHOSEN = "image or network"
USUAL = 0.975
Measured = dict[str, np.ndarray]
"""Columns of measured cells, each (n, ...): ``image``, ``network``, ``probabilities``, ``raw``, ``labels``."""


def quantile(values):
    """Return the limit that a new cell of the same kind passes with probability of at most 2.5 %."""
    rank = min(int(np.ceil(USUAL * (len(values) + 1))), len(values))
    return float(np.sort(values)[rank - 1])


def statistics(train, valid):
    """Return the statistics that a checkpoint would have."""
    held_out = (valid["image"], valid["network"])
    known = fit_training_cells(train["image"], train["network"], train["labels"], held_out)
    assert known is not None
    return known


def one_distance(columns):
    """Return the method of one Mahalanobis distance of some columns from all training cells."""
    from sklearn.covariance import ledoit_wolf

    def fit(train, valid):
        values = columns(train).astype(np.float64)
        center = np.median(values, axis=0)
        spread = 1.4826 * np.median(np.abs(values - center), axis=0)
        scale = np.maximum(np.where(spread > 0, spread, values.std(axis=0)), 1e-3 * (1 + np.abs(center)))
        scaled = np.clip((values - center) / scale, -10, 10)
        middle = scaled.mean(axis=0)
        covariance = ledoit_wolf(scaled - middle, assume_centered=True)[0] + 1e-6 * np.eye(len(middle))
        inverse = np.linalg.inv(covariance)

        def distance(cells):
            away = np.nan_to_num((columns(cells) - center) / scale - middle, nan=1e6, posinf=1e6, neginf=-1e6)
            return np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", away, inverse, away), 0))

        limit = max(quantile(distance(valid)), 1e-9)
        return lambda cells: distance(cells) / limit

    return fit


def by_distances(places):
    """Return the method of some of the three distances of the package: 0 shape, 1 noise, 2 network."""

    def fit(train, valid):
        known = statistics(train, valid)

        def score(cells):
            scaled = (cells["image"] - known.center) / known.scale @ known.image_whitening.T
            white = cells["network"] @ known.network_whitening.T
            nearest = np.min([np.linalg.norm(white - mean, axis=1) for mean in known.means], axis=0)
            of = (
                np.linalg.norm(scaled[:, :NUM_SHAPE_FEATURES], axis=1),
                np.linalg.norm(scaled[:, NUM_SHAPE_FEATURES:], axis=1),
            )
            distances = (*of, nearest)
            return np.max([distances[place] / known.limits[place] for place in places], axis=0)

        return score

    return fit


def either(*methods):
    """Return the method that calls a cell unlike if one of some methods does."""

    def fit(train, valid):
        scores = [method(train, valid) for method in methods]
        return lambda cells: np.max([score(cells) for score in scores], axis=0)

    return fit


def by_probabilities(doubt):
    """Return a method that looks at the probabilities alone."""

    def fit(train, valid):
        limit = quantile(doubt(valid["probabilities"]))
        return lambda cells: np.where(doubt(cells["probabilities"]) > limit, 2.0, 0.0)

    return fit


def neighbours(train, valid):
    """Return the method of the distance to the tenth nearest training cell, in activations of length 1."""

    def unit(cells):
        return cells["network"] / np.maximum(np.linalg.norm(cells["network"], axis=1, keepdims=True), 1e-9)

    known = unit(train)

    def distance(cells):
        return -np.partition(unit(cells) @ known.T, -10, axis=1)[:, -10]

    limit = quantile(distance(valid))
    return lambda cells: np.where(distance(cells) > limit, 2.0, 0.0)


def as_is(train, valid):
    """Return the method of the package, by its compiled loop."""
    known = statistics(train, valid)
    return lambda cells: known.measure(cells["image"], cells["network"]).scores


RAW = one_distance(lambda cells: cells["raw"])
METHODS = {
    CHOSEN: as_is,
    "image (shape or noise)": by_distances((0, 1)),
    "shape": by_distances((0,)),
    "noise": by_distances((1,)),
    "network": by_distances((2,)),
    "shape or network": by_distances((0, 2)),
    "one distance of the image": one_distance(lambda cells: cells["image"]),
    "22 features of the raw cell": RAW,
    "20 without height and width": one_distance(lambda cells: cells["raw"][:, 2:]),
    "raw cell or network": either(RAW, by_distances((2,))),
    "softmax": by_probabilities(lambda values: -values.max(axis=1)),
    "entropy": by_probabilities(lambda values: -(values * np.log(values + 1e-12)).sum(axis=1)),
    "10 nearest neighbours": neighbours,
}
