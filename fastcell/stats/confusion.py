"""Confusion matrices of classes, over all cells and by group."""

from __future__ import annotations

import numpy as np


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count cells: (K, K) int64, row = true class, column = called class.

    Args:
        labels: (N,) int, true classes; cells with -1 are left out.
        predicted: (N,) int, called classes.
        num_classes: K.
    """
    known = labels >= 0
    index = labels[known].astype(np.int64) * num_classes + predicted[known]
    return np.bincount(index, minlength=num_classes**2).reshape(num_classes, num_classes)


def confusion_per_group(labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray, num_classes: int) -> np.ndarray:
    """(G, K, K) int64."""
    names, member = np.unique(groups, return_inverse=True)
    index = (member.astype(np.int64) * num_classes + labels) * num_classes + predicted
    return np.bincount(index, minlength=len(names) * num_classes**2).reshape(-1, num_classes, num_classes)
