"""Labels that are looked up are those of an array."""

import numpy as np

from fastcell.dataset.rows.cell_labels import CellLabels


def test_labels_of_cells_without_a_class_are_the_last_number():
    labels = CellLabels(np.array([0, -1, 1, 1], np.int8), np.array([5, 300, -1]))
    assert len(labels) == 4
    found = labels[np.array([2, 1, 0])]
    assert found.dtype == np.int64
    assert found.tolist() == [300, -1, 5]
    assert labels[1:3].tolist() == [-1, 300]
