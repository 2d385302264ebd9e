"""Confusion matrices, over all cells and by group."""

import numpy as np

from fastcell.stats.confusion import called_per_group, confusion_matrix, confusion_per_group


def test_unknown_labels_do_not_count():
    assert confusion_matrix(np.array([0, -1, 1]), np.array([0, 1, 0]), 2).tolist() == [[1, 0], [1, 0]]


def test_rows_are_true_and_columns_called_classes():
    labels, called = np.array([0, 0, 0, 2]), np.array([0, 1, 1, 0])
    assert confusion_matrix(labels, called, 3).tolist() == [[1, 2, 0], [0, 0, 0], [1, 0, 0]]
    assert confusion_matrix(np.array([], np.int8), np.array([], np.int8), 2).tolist() == [[0, 0], [0, 0]]


def test_small_integers_do_not_overflow():
    labels = np.full(3, 99, np.int8)
    assert confusion_matrix(labels, labels, 100)[99, 99] == 3


def test_groups_are_in_the_order_of_their_names_and_sum_to_all():
    labels, called = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1])
    groups = np.array(["b", "a", "a", "b"])
    tables = confusion_per_group(labels, called, groups, 2)
    assert tables.tolist() == [[[0, 0], [1, 1]], [[1, 1], [0, 0]]]
    assert np.array_equal(tables.sum(axis=0), confusion_matrix(labels, called, 2))


def test_called_classes_by_group():
    names, counts = called_per_group(np.array([0, 2, 2, 1]), np.array(["b", "a", "b", "b"]), 3)
    assert names.tolist() == ["a", "b"]
    assert counts.tolist() == [[0, 0, 1], [1, 1, 1]]
    names, counts = called_per_group(np.empty(0, np.int64), np.empty(0, str), 3)
    assert (len(names), counts.shape) == (0, (0, 3))
