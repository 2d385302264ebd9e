"""Every row in exactly one rank's part, equal steps, positions that no two cells share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcell.errors import ArgumentError
from fastcell.loading.ranks import Share, chunks_left, evaluation_share, training_share

sizes = st.integers(1, 500)
ranks = st.integers(1, 9)


def check(shares, num_rows):
    rows = np.concatenate([np.arange(share.start, share.stop) for share in shares])
    np.testing.assert_array_equal(rows, np.arange(num_rows))
    (steps,) = {share.steps for share in shares}
    assert max(len(share) for share in shares) > (steps - 1) * shares[0].batch  # no step that all ranks only pad
    for share in shares:
        assert sum(share.num_real(step) for step in range(steps)) == len(share)
    positions = np.concatenate([share.positions(step) for share in shares for step in range(steps)])
    np.testing.assert_array_equal(np.sort(positions), np.arange(len(positions)))


@given(sizes, st.integers(1, 40), ranks)
def test_training_parts(num_rows, per_rank, num_ranks):
    shares = [training_share(num_rows, per_rank * num_ranks, rank, num_ranks) for rank in range(num_ranks)]
    check(shares, num_rows)
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1
    for step in range(shares[0].steps):
        of_all = {share.num_real_of_all(step, num_rows) for share in shares}
        assert of_all == {sum(share.num_real(step) for share in shares)}


@given(sizes, st.integers(1, 40), ranks)
def test_evaluation_chunks_are_those_of_one_rank(num_rows, chunk, num_ranks):
    shares = [evaluation_share(num_rows, chunk, rank, num_ranks) for rank in range(num_ranks)]
    check(shares, num_rows)
    for share in shares:
        assert share.start % chunk == 0 or len(share) == 0
        assert share.stop % chunk == 0 or share.stop == num_rows


def test_batch_size_is_over_all_ranks():
    assert training_share(100, 24, 1, 3) == Share(33, 66, 8, 5, 1, 3)
    with pytest.raises(ArgumentError, match=r"batch_size must be a positive multiple .*\(3\).*, got 10\. Take 9\."):
        training_share(100, 10, 0, 3)
    with pytest.raises(ArgumentError, match="eval_batch_size must be positive, got 0"):
        evaluation_share(100, 0)


def test_chunks_with_a_row_that_is_not_done_are_left(monkeypatch):
    rows = np.array([10, 11, 12, 20, 21, 22, 30])
    assert chunks_left(rows, np.array([10, 11, 12, 21, 99]), 3).tolist() == [False] * 3 + [True] * 4
    assert chunks_left(rows, rows, 3).tolist() == [False] * 6 + [True]  # something must be run
    assert chunks_left(rows, rows[:0], 3).all()
    whole = chunks_left(np.arange(100), np.arange(7, 93), 8)
    monkeypatch.setattr("fastcell.loading.ranks._PART", 20)
    assert np.array_equal(chunks_left(np.arange(100), np.arange(7, 93), 8), whole)
    assert np.flatnonzero(whole).tolist() == [*range(8), *range(88, 100)]
