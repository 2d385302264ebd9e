"""Neighbours of a cell in the recording and in the embedding."""

import numpy as np

from fastcell.review.near_cells import RecordingOrder, nearest


def test_recording_order_is_by_group_and_number(make_set):
    order = RecordingOrder(make_set(keys=["a_2.png", "a_10.png", "a_9.png", "b.png", "a_1.png"]))
    assert order.around(0, 9).tolist() == [4, 0, 2, 1, 3]  # numbers as numbers
    assert order.around(1, 1).tolist() == [2, 1, 3]
    assert order.around(3, 1).tolist() == [1, 3]


def test_other_groups_are_no_neighbours(planted):
    data = planted(60)
    order, groups = RecordingOrder(data), data.column("group")
    for cell in (0, 17, 59):
        near = order.around(cell, 4)
        assert cell in near
        assert (groups[near] == groups[cell]).all()
        assert (np.diff(near) > 0).all()
    assert len(order.around(30, 4)) == 9


def test_nearest_in_the_embedding():
    values = np.array([[0, 0], [3, 0], [1, 0], [np.nan, 0], [0, 2]], np.float32)
    assert nearest(values, 0, 3).tolist() == [2, 4, 1]
    assert nearest(values, 0, 9).tolist() == [2, 4, 1]
    assert nearest(values, 3, 3).tolist() == []
    assert nearest(values[:1], 0, 3).tolist() == []
