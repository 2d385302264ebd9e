"""Which cell goes where: every cell once, and runs of cells that are decoded together stay near each other."""

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.packing import shard_layout
from fastcell.packing.shard_layout import block_shards, cell_shards, check_layout, choose_shard_cells, even_block_shards
from fastcell.sources.base import Runs, SourceItem


def items(num):
    return [SourceItem(f"{i:06d}", "raw") for i in range(num)]


def numbers(blocks):
    return [int(item.key) for _, part in blocks for item in part]


@pytest.fixture
def small_window(monkeypatch):
    monkeypatch.setattr(shard_layout, "WINDOW_BYTES", 1000)


@pytest.mark.usefixtures("small_window")
def test_runs_are_read_together_and_mixed():
    runs = Runs(np.arange(5000) // 20, 50_000)  # windows of 100 cells, runs of 20
    shards = cell_shards(items(5000), 300, 7, runs)
    assert [len(numbers(shard)) for shard in shards] == [300] * 16 + [200]
    assert sorted(row for shard in shards for row in numbers(shard)) == list(range(5000))
    assert [numbers(shard) for shard in shards] == [numbers(shard) for shard in cell_shards(items(5000), 300, 7, runs)]
    used = [runs.numbers[numbers(shard)] for shard in shards]
    assert max(len(set(mine.tolist())) for mine in used) <= 300 // 20 + 1
    first = used[0][:100]
    assert 5 <= len(set(first.tolist())) <= 6
    assert (np.diff(first) == 0).mean() < 0.4
    assert np.std([run for mine in used[:2] for run in mine]) > 40  # of runs all over the set


@pytest.mark.usefixtures("small_window")
def test_blocks_of_runs_hold_one_side_each():
    runs = Runs(np.arange(4000) // 25, 40_000)
    sides = np.array(["train", "train", "valid", "test"])[np.random.default_rng(0).integers(0, 4, 4000)]
    shards = block_shards(items(4000), {"default": sides}, 500, 32, 3, runs)
    assert sorted(row for shard in shards for row in numbers(shard)) == list(range(4000))
    for shard in shards:
        for side, part in shard:
            assert len(part) <= 32
            assert {sides[int(item.key)] for item in part} == {side}
    counts = [len(set(runs.numbers[numbers(shard)].tolist())) for shard in shards]
    assert max(counts) <= 500 // 25 + 6


def test_cells_that_are_read_one_by_one_keep_their_order():
    expected = np.random.default_rng([4, 0xCE11]).permutation(100).tolist()
    shards = cell_shards(items(100), 30, 4)
    assert [row for shard in shards for row in numbers(shard)] == expected


@pytest.mark.parametrize(("num", "expected"), [(1, 256), (2048, 256), (2049, 257), (80_000, 10_000), (10**6, 10_000)])
def test_small_sets_get_about_eight_shards(num, expected):
    assert choose_shard_cells(num) == expected


def test_even_shards_have_as_many_blocks_each():
    subsets = np.array(["train"] * 50 + ["test"] * 21)
    shards = even_block_shards(range(71), {"default": subsets, "fold-0": subsets[::-1]}, 30, 8, 5)
    assert [len(blocks) for blocks in shards] == [4, 4, 2]  # 3 + 4 + 3 blocks; 30 cells take 4 of 8
    assert sorted(cell for blocks in shards for _, cells in blocks for cell in cells) == list(range(71))
    for blocks in shards:
        for name, cells in blocks:
            assert {subsets[cell] for cell in cells} == {name}
            assert len({subsets[::-1][cell] for cell in cells}) == 1
            assert len(cells) <= 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rows", None, 256), "--layout must be one of cell, block, got 'rows'"),
        (("cell", 0, 256), "--shard-cells must be a number >= 1, got 0"),
        (("block", None, 65_537), "--block-cells must be a number from 1 to 65,536, got 65537"),
    ],
)
def test_layouts_that_cannot_be(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        check_layout(*arguments)
