"""Class balance: oversampling factors and loss weights of a view."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

BalanceName = Literal["none", "oversample", "weights"]

BALANCES: tuple[BalanceName, ...] = get_args(BalanceName)


def oversample(rows: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Repeat whole classes, then a seeded choice of their cells, until every class has as many rows as the largest."""
    counts = np.bincount(labels[labels >= 0])
    target = int(counts.max(initial=0))
    balanced = [rows[labels < 0]]
    for label in np.flatnonzero(counts):
        cells = rows[labels == label]
        whole, rest = divmod(target, len(cells))
        extra = np.random.default_rng([seed, 2, int(label)]).permutation(cells)[:rest]
        balanced += [np.repeat(cells, whole), extra]
    return np.sort(np.concatenate(balanced))


def class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Inverse class frequency, scaled so that its mean over the rows is 1; 0 for a class with no row."""
    counts = np.bincount(labels[labels >= 0], minlength=num_classes).astype(np.float64)
    present = counts > 0
    weights = np.zeros(num_classes)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights.astype(np.float32)
