"""Cells that were lost while data were read: noted once, counted, and told; too many of them end a run."""

from __future__ import annotations

import logging

import pytest

from fastcell.dataset.corrupt_cells import Losses, describe_losses, losses_table
from fastcell.errors import ArgumentError, DataError


def test_the_first_reason_of_a_cell_stays(make_dataset, caplog):
    losses = Losses(make_dataset(30))
    with caplog.at_level(logging.WARNING):
        losses.add({12: "short", 13: "short", 14: "changed"})
        losses.add({12: "changed", 3: "changed"})
        losses.add({3: "short"})
    assert losses.reasons == {12: "short", 13: "short", 14: "changed", 3: "changed"}
    assert losses.is_lost.nonzero()[0].tolist() == [3, 12, 13, 14]
    assert len(losses) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "shard-000001.tar: 3 bad cells found, replaced with weight 0 (short 2, changed 1)",
        "shard-000000.tar: 1 bad cell found, replaced with weight 0 (changed 1)",
    ]
    losses.reasons.clear()
    assert len(losses) == 4  # a copy was given


def test_asked_for_an_error_the_first_loss_ends_the_run(make_dataset):
    losses = Losses(make_dataset(30), "error")
    with pytest.raises(DataError, match=r"shard 'shard-000001.tar', cell 'cell-00012.png': short\. Restore the shard"):
        losses.add({12: "short", 13: "short"})
    with pytest.raises(ArgumentError, match="on_bad_cell must be one of replace, error, got 'skip'"):
        Losses(make_dataset(3, name="other"), "skip")


def test_more_than_half_of_the_cells_end_the_run(make_dataset):
    losses = Losses(make_dataset(10))
    losses.add(dict.fromkeys(range(5), "short"))
    with pytest.raises(DataError, match="short, and 6 cells of the 10 are lost by now. Look whether"):
        losses.add({5: "short"})


def test_no_shard_at_all_ends_the_run(make_dataset):
    manifest = make_dataset(30)
    for number in range(3):
        manifest.shard_path(number).unlink()
    with pytest.raises(DataError, match="none of its shards is there any more"):
        Losses(manifest).add({0: "missing"})


def test_table_and_words(make_dataset):
    manifest = make_dataset(30)
    table = losses_table(manifest, {12: "short", 3: "changed", 13: "short"})
    assert table.to_pylist() == [
        {"cell_id": 3, "key": "cell-00003.png", "shard": "shard-000000.tar", "class": "A", "reason": "changed"},
        {"cell_id": 12, "key": "cell-00012.png", "shard": "shard-000001.tar", "class": "A", "reason": "short"},
        {"cell_id": 13, "key": "cell-00013.png", "shard": "shard-000001.tar", "class": "B", "reason": "short"},
    ]
    assert describe_losses(table).splitlines() == [
        "3 bad cells replaced with weight 0, counted nowhere:",
        "  short 2, changed 1",
        "  by shard: shard-000001.tar 2, shard-000000.tar 1",
        "  by class: A 2, B 1",
    ]
    assert describe_losses(table, most=1).splitlines()[1] == "  short 2, others 1"
    assert losses_table(manifest, {}).num_rows == 0
    unlabelled = losses_table(make_dataset(3, name="bare", labelled=False), {1: "short"})
    assert describe_losses(unlabelled).splitlines()[-1] == "  by class: (none) 1"
