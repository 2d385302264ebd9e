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
    """Count cells by group: (G, K, K) int64, groups in sorted order.

    Args:
        labels: (N,) int, true classes, all known.
        predicted: (N,) int, called classes.
        groups: (N,) of any comparable type.
        num_classes: K.
    """
    names, member = np.unique(groups, return_inverse=True)
    index = (member.astype(np.int64) * num_classes + labels) * num_classes + predicted
    return np.bincount(index, minlength=len(names) * num_classes**2).reshape(-1, num_classes, num_classes)


def called_per_group(predicted: np.ndarray, groups: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Count cells by the class they are called: names (G,) of the groups, sorted, and (G, K) int64.

    Args:
        predicted: (N,) int, called classes.
        groups: (N,) of any comparable type.
        num_classes: K.
    """
    names, member = np.unique(groups, return_inverse=True)
    index = member * num_classes + predicted
    return names, np.bincount(index, minlength=len(names) * num_classes).reshape(-1, num_classes)
