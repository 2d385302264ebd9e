"""Confusion matrices over all cells and by group."""

from __future__ import annotations

import numpy as np


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count cells by true and predicted class.

    Args:
        labels: (N,) int, true classes; cells with -1 are ignored.
        predicted: (N,) int, predicted classes.
        num_classes: K.

    Returns:
        (K, K) int64, row = true class, column = predicted class.
    """
    known = labels >= 0
    index = labels[known].astype(np.int64) * num_classes + predicted[known]
    return np.bincount(index, minlength=num_classes**2).reshape(num_classes, num_classes)


def confusion_per_group(labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray, num_classes: int) -> np.ndarray:
    """Count cells by group, true class and predicted class.

    Args:
        labels: (N,) int, true classes, all known.
        predicted: (N,) int, predicted classes.
        groups: (N,) of any comparable type.
        num_classes: K.

    Returns:
        (G, K, K) int64, groups in sorted order.
    """
    names, member = np.unique(groups, return_inverse=True)
    index = (member.astype(np.int64) * num_classes + labels) * num_classes + predicted
    return np.bincount(index, minlength=len(names) * num_classes**2).reshape(-1, num_classes, num_classes)


def called_per_group(predicted: np.ndarray, groups: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Count cells by group and predicted class.

    Args:
        predicted: (N,) int, predicted classes.
        groups: (N,) of any comparable type.
        num_classes: K.

    Returns:
        Sorted names of the groups (G,), and counts (G, K) int64.
    """
    names, member = np.unique(groups, return_inverse=True)
    index = member * num_classes + predicted
    return names, np.bincount(index, minlength=len(names) * num_classes).reshape(-1, num_classes)
