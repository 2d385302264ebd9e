"""Confusion matrices, over all cells and by group."""

import numpy as np

from fastcell.stats.confusion import confusion_matrix


def test_unknown_labels_do_not_count():
    assert confusion_matrix(np.array([0, -1, 1]), np.array([0, 1, 0]), 2).tolist() == [[1, 0], [1, 0]]
