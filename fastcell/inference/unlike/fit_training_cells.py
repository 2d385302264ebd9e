"""Compute the statistics of training cells from their features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag

from fastcell.inference.unlike.feature_names import NUM_SHAPE_FEATURES
from fastcell.inference.unlike.training_cells import (
    LEAST_HELD_OUT,
    LEAST_TRAINING_CELLS,
    USUAL_SHARE,
    Floats,
    TrainingCells,
)

_FARTHEST = 10.0  # scaled features are clipped to this value for the covariance, which outliers would inflate
_FOLDS = 5
_TAIL = 0.005  # share of training cells below `low`, and above `high`
_LEAST_UNITS = 1e-6


def fit_training_cells(
    image_features: npt.NDArray[np.float32],
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    held_out: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
) -> TrainingCells | None:
    """Compute the statistics of training cells.

    The limits are 97.5 % quantiles of held-out cells. The rank is rounded up, so that a new cell of the same kind
    exceeds a limit with a probability of at most 2.5 %. With fewer than `LEAST_HELD_OUT` held-out cells, training cells
    give the limits by five-fold cross-validation of the statistics. These limits are too low for activations: the
    network has learnt from the training cells, so their activations are nearer to the class means than those of new
    cells.

    Args:
        image_features: (N, F) of training cells.
        features: (N, D) penultimate activations of training cells; D may be 0.
        labels: (N,) true classes, >= 0.
        held_out: image features (M, F) and activations (M, D) of cells of the same kind that the network was not
            trained on; None if there are none.

    Returns:
        The statistics; None with fewer than `LEAST_TRAINING_CELLS` finite training cells.
    """
    finite = np.isfinite(image_features).all(axis=1) & np.isfinite(features).all(axis=1)
    image, network, labels = image_features[finite], features[finite], labels[finite]
    if len(image) < LEAST_TRAINING_CELLS:
        return None
    found = _statistics(image, network, labels)
    num_held_out = 0
    if held_out is not None and len(held_out[0]) >= LEAST_HELD_OUT:
        distances = _distances(found, *held_out)
        num_held_out = len(held_out[0])
    else:
        distances = _cross_distances(image, network, labels)
    return TrainingCells(**found, limits=_limits(distances), num_training=len(image), num_held_out=num_held_out)


def _limits(distances: Floats) -> Floats:
    """Return the limits (3,) of distances (M, 3); those by shape and noise together exclude the share of one score."""
    limits = np.array([_upper_quantile(column) for column in distances.T])
    limits[:2] *= _upper_quantile((distances[:, :2] / limits[:2]).max(axis=1))
    return limits


def _statistics(image: np.ndarray, network: np.ndarray, labels: np.ndarray) -> dict[str, Floats]:
    values = image.astype(np.float64)
    center = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - center), axis=0)
    scale = np.where(spread > 0, spread, values.std(axis=0))
    scale = np.maximum(scale, 1e-3 * (1 + np.abs(center)))
    scaled = np.clip((values - center) / scale, -_FARTHEST, _FARTHEST)
    middle = scaled.mean(axis=0)
    tails = np.quantile((values - center) / scale, [_TAIL, 1 - _TAIL], axis=0)
    center = center + middle * scale  # distances are from the mean
    activations = network.astype(np.float64)
    kinds = np.unique(labels)
    means = np.array([activations[labels == kind].mean(axis=0) for kind in kinds]).reshape(len(kinds), network.shape[1])
    whitening = _whitening(activations - means[np.searchsorted(kinds, labels)])
    return {
        "center": center,
        "scale": scale,
        "low": np.minimum(tails[0] - middle, -1.0),
        "high": np.maximum(tails[1] - middle, 1.0),
        "image_whitening": block_diag(
            _whitening((scaled - middle)[:, :NUM_SHAPE_FEATURES]), _whitening((scaled - middle)[:, NUM_SHAPE_FEATURES:])
        ),
        "network_whitening": whitening,
        "means": means @ whitening.T,
    }


def _whitening(centered: Floats) -> Floats:
    """Return W (D, D), lower triangular, so that ``|W x|`` is the Mahalanobis distance of x from 0."""
    from sklearn.covariance import ledoit_wolf

    if not centered.shape[1]:
        return np.empty((0, 0))
    covariance, _ = ledoit_wolf(centered, assume_centered=True)
    covariance += _LEAST_UNITS * max(np.trace(covariance) / len(covariance), _LEAST_UNITS) * np.eye(len(covariance))
    whitening: Floats = np.linalg.inv(np.linalg.cholesky(covariance))
    return np.tril(whitening)


def _distances(found: dict[str, Floats], image: np.ndarray, network: np.ndarray) -> Floats:
    """Return the distances (M, 3) by shape, by noise, and by activations from the nearest class."""
    scaled = (image.astype(np.float64) - found["center"]) / found["scale"]
    white = scaled @ found["image_whitening"].T
    shape, noise = white[:, :NUM_SHAPE_FEATURES], white[:, NUM_SHAPE_FEATURES:]
    of_network = np.full(len(image), np.inf if network.shape[1] else 1.0)
    activations = network.astype(np.float64) @ found["network_whitening"].T
    for mean in found["means"]:
        of_network = np.minimum(of_network, np.linalg.norm(activations - mean, axis=1))
    return np.stack([np.linalg.norm(shape, axis=1), np.linalg.norm(noise, axis=1), of_network], axis=1)


def _cross_distances(image: np.ndarray, network: np.ndarray, labels: np.ndarray) -> Floats:
    """Return the distances (N, 3) of training cells in cross-validation: from the statistics of the other parts."""
    part = np.arange(len(image)) % _FOLDS
    distances = np.empty((len(image), 3))
    for number in range(_FOLDS):
        mine = part == number
        found = _statistics(image[~mine], network[~mine], labels[~mine])
        distances[mine] = _distances(found, image[mine], network[mine])
    return distances


def _upper_quantile(distances: Floats) -> float:
    """Return the smallest distance that a new cell exceeds with probability of at most 1 - `USUAL_SHARE`."""
    finite = np.where(np.isfinite(distances), distances, np.inf)
    rank = min(int(np.ceil(USUAL_SHARE * (len(finite) + 1))), len(finite))
    limit = np.sort(finite)[rank - 1]
    largest = finite[np.isfinite(finite)].max(initial=1.0)
    return float(max(limit if np.isfinite(limit) else largest, 1e-9))
