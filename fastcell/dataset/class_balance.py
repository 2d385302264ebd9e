"""Class balance: oversampling factors and loss weights of a view."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

BalanceName = Literal["none", "oversample", "weights"]

BALANCES: tuple[BalanceName, ...] = get_args(BalanceName)


def oversample(rows: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Repeat rows until every class has as many rows as the largest class.

    Each class is repeated whole as often as possible; a seeded random choice of its cells supplies the remainder. Rows
    without a class are kept once.

    Args:
        rows: (n,) int64, cell_ids.
        labels: (n,) int64, class of each row, -1 for none.
        seed: seed of the random choice.

    Returns:
        (m,) int64, the balanced rows in ascending order.
    """
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
    """Return inverse class frequencies as loss weights.

    Args:
        labels: (n,) int64, class of each row, -1 for none.
        num_classes: number of classes, K.

    Returns:
        (K,) float32, scaled so that the mean weight over the labelled rows is 1; 0 for a class without rows.
    """
    counts = np.bincount(labels[labels >= 0], minlength=num_classes).astype(np.float64)
    present = counts > 0
    weights = np.zeros(num_classes)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights.astype(np.float32)
