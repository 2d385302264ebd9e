"""What is kept of corrupt cells, what is said of them, and what stands in for them."""

import logging

import numpy as np
import pytest

from fastcell.dataset.corrupt_cells import (
    CorruptCells,
    blank_cell,
    corrupt_cells_table,
    describe_corrupt_cells,
    stand_in,
)
from fastcell.errors import ArgumentError, DataError


def test_the_first_good_cell_stands_in():
    chosen = np.array([4, 9, 2, 7])
    np.testing.assert_array_equal(stand_in(chosen, np.array([False, True, False, True])), [9, 9, 9, 7])
    np.testing.assert_array_equal(stand_in(chosen, np.ones(4, bool)), chosen)
    np.testing.assert_array_equal(stand_in(chosen, np.zeros(4, bool)), [4, 4, 4, 4])


def test_a_blank_cell_is_middle_grey_in_either_depth():
    for depth, dtype, level in ((8, np.uint8, 128), (16, np.uint16, 128 * 257)):
        cell = blank_cell(2, 3, depth)
        assert (cell.shape, cell.dtype) == ((2, 3, 1), dtype)
        assert (cell == level).all()


def test_the_first_reason_of_a_cell_stays(make_dataset, caplog):
    losses = CorruptCells(make_dataset(30))
    with caplog.at_level(logging.WARNING):
        losses.add({12: "short", 13: "short", 14: "changed"})
        losses.add({12: "changed", 3: "changed"})
        losses.add({3: "short"})
    assert losses.reasons == {12: "short", 13: "short", 14: "changed", 3: "changed"}
    assert losses.is_corrupt.nonzero()[0].tolist() == [3, 12, 13, 14]
    assert len(losses) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "shard-000001.tar: 3 corrupt cells found, replaced with weight 0 (short 2, changed 1)",
        "shard-000000.tar: 1 corrupt cell found, replaced with weight 0 (changed 1)",
    ]
    losses.reasons.clear()
    assert len(losses) == 4  # a copy was given


def test_asked_for_an_error_the_first_loss_ends_the_run(make_dataset):
    losses = CorruptCells(make_dataset(30), "error")
    with pytest.raises(DataError, match=r"shard 'shard-000001.tar', cell 'cell-00012.png': short\. Restore the shard"):
        losses.add({13: "short", 12: "short"})
    with pytest.raises(ArgumentError, match="on_bad_cell must be one of replace, error, got 'skip'"):
        CorruptCells(make_dataset(3, name="other"), "skip")


def test_more_than_half_of_the_cells_end_the_run(make_dataset):
    losses = CorruptCells(make_dataset(10))
    losses.add(dict.fromkeys(range(5), "short"))
    with pytest.raises(DataError, match="short, and 6 of 10 cells are corrupt. Check that"):
        losses.add({5: "short"})


def test_no_shard_at_all_ends_the_run(make_dataset):
    manifest = make_dataset(30)
    for number in range(3):
        manifest.shard_path(number).unlink()
    with pytest.raises(DataError, match="none of its shards exists any more"):
        CorruptCells(manifest).add({0: "missing"})


def test_table_and_words(make_dataset):
    manifest = make_dataset(30)
    table = corrupt_cells_table(manifest, {12: "short", 3: "changed", 13: "short"})
    assert table.to_pylist() == [
        {"cell_id": 3, "key": "cell-00003.png", "shard": "shard-000000.tar", "class": "A", "reason": "changed"},
        {"cell_id": 12, "key": "cell-00012.png", "shard": "shard-000001.tar", "class": "A", "reason": "short"},
        {"cell_id": 13, "key": "cell-00013.png", "shard": "shard-000001.tar", "class": "B", "reason": "short"},
    ]
    assert describe_corrupt_cells(table).splitlines() == [
        "3 corrupt cells replaced with weight 0, counted nowhere:",
        "  short 2, changed 1",
        "  by shard: shard-000001.tar 2, shard-000000.tar 1",
        "  by class: A 2, B 1",
    ]
    assert describe_corrupt_cells(table, most=1).splitlines()[1] == "  short 2, others 1"
    assert corrupt_cells_table(manifest, {}).num_rows == 0
    unlabelled = corrupt_cells_table(make_dataset(3, name="bare", labelled=False), {1: "short"})
    assert describe_corrupt_cells(unlabelled).splitlines()[-1] == "  by class: (none) 1"
