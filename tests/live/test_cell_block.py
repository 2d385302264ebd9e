"""Frames and their answers: before a worker has them, and if they are dropped."""

import numpy as np
from fixtures.live_servers import some_cells

from fastcell.live.cell_block import CellBlock
from fastcell.live.protocol import AnswerStatus, Frames


def test_a_block_has_no_class_before_a_worker_gives_one():
    ids, times = np.array([7, 9], np.uint64), np.array([70, 90], np.uint64)
    block = CellBlock(Frames(some_cells(2), ids, times, np.full(2, np.nan, np.float32)), 3, 1.5, lambda done: None)
    assert (block.left, block.taken, block.abandoned, block.dropped) == (2, 0, False, False)
    assert block.answers["id"].tolist() == [7, 9]
    assert block.answers["time"].tolist() == [70, 90]
    assert block.answers["class"].tolist() == [-1, -1]
    assert np.isnan(block.answers["p"]).all()
    assert (block.unlike_off == -1).all()
    block.drop()
    assert block.dropped
    assert block.left == 0
    assert isinstance(block.frames.cells, list)
    assert not block.frames.cells  # the pixels are free
    assert block.frames.ids.tolist() == [7, 9]
    assert (block.answers["status"] == AnswerStatus.DROPPED).all()


def test_a_classified_block_is_not_dropped():
    frames = Frames(some_cells(1), *(np.zeros(1, np.uint64),) * 2, np.zeros(1, np.float32))
    block = CellBlock(frames, 2, 0.0, lambda done: None)
    block.taken, block.left = 1, 0
    assert not block.dropped
