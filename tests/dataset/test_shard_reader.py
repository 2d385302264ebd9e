"""Stored bytes as they lie in the tars, in any choice of cells, and reasons for those that cannot be read."""

import os
from collections.abc import Callable

import numpy as np
import pytest
from fixtures.written_bytes import stored_bytes

from fastcell.dataset.integrity import MISSING, REASONS, SHORT, UNREADABLE
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import MOST_OPEN, ShardFiles

MakeDataset = Callable[..., Manifest]


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("cell_ids", [range(40), [0, 1, 5, 20, 39], [17], []])
def test_bytes_are_those_of_the_cells(make_dataset, layout, cell_ids):
    manifest = make_dataset(40, layout=layout)
    stored = ShardFiles(manifest, {}).read(np.array(list(cell_ids), np.int64))
    assert stored.cell_ids.tolist() == list(cell_ids)
    assert stored.reasons == {}
    for place, cell_id in enumerate(cell_ids):
        assert stored.bytes_of(place).tobytes() == stored_bytes(manifest, cell_id)
        assert stored.sizes[place] == len(stored_bytes(manifest, cell_id))


def test_cells_far_apart_are_read_around(make_dataset):
    manifest = make_dataset(600, num_shards=1)
    files = ShardFiles(manifest, {})
    ends = files.read(np.array([0, 599]))
    assert len(ends.buffer) == ends.sizes.sum()  # nothing between was read
    near = files.read(np.array([0, 1]))
    assert len(near.buffer) > near.sizes.sum()  # one read, the header between along
    assert [part.tobytes() for part in map(ends.bytes_of, (0, 1))] == [
        stored_bytes(manifest, 0),
        stored_bytes(manifest, 599),
    ]


def test_more_shards_than_may_be_open(make_dataset):
    manifest = make_dataset(60, num_shards=MOST_OPEN + 4)
    files = ShardFiles(manifest, {})
    before = len(os.listdir("/proc/self/fd"))
    stored = files.read(np.arange(60))
    assert len(os.listdir("/proc/self/fd")) - before == MOST_OPEN
    assert [stored.bytes_of(place).tobytes() for place in range(60)] == [stored_bytes(manifest, i) for i in range(60)]
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert files.read(np.array([59])).bytes_of(0).tobytes() == stored_bytes(manifest, 59)


def test_reasons_of_cells_that_are_not_there(make_dataset):
    manifest = make_dataset(30)  # ten cells in each of three shards
    manifest.shard_path(0).unlink()
    short = manifest.shard_path(1)
    os.truncate(short, int(manifest.column("offset")[15]) + 3)
    manifest.shard_path(2).unlink()
    manifest.shard_path(2).mkdir()
    stored = ShardFiles(manifest, {}).read(np.array([1, 2, 12, 15, 16, 25]))
    assert stored.reasons == {
        1: REASONS[MISSING], 2: REASONS[MISSING], 15: REASONS[SHORT], 16: REASONS[SHORT], 25: REASONS[UNREADABLE],
    }  # fmt: skip
    assert stored.bytes_of(2).tobytes() == stored_bytes(manifest, 12)


def test_a_bad_sector_takes_its_own_cell_along(make_dataset, monkeypatch):
    manifest = make_dataset(10, num_shards=1)
    place = int(manifest.column("offset")[4])
    read = os.preadv

    def fail(file, buffers, offset):
        if offset <= place < offset + len(buffers[0]):
            raise OSError(5, "Input/output error")
        return read(file, buffers, offset)

    monkeypatch.setattr("fastcell.dataset.shard_reader.os.preadv", fail)
    stored = ShardFiles(manifest, {}).read(np.arange(10))
    assert stored.reasons == {4: REASONS[UNREADABLE]}
    assert stored.bytes_of(5).tobytes() == stored_bytes(manifest, 5)


def test_shards_that_changed_are_told_once(make_dataset):
    manifest = make_dataset(30)
    stamps = {}
    files = ShardFiles(manifest, stamps)
    every = np.arange(3)
    assert files.changed(every) == []  # never asked for before
    assert sorted(stamps) == [0, 1, 2]
    other = manifest.shard_path(1).read_bytes()
    files.read(np.array([12]))
    manifest.shard_path(1).unlink()
    manifest.shard_path(1).write_bytes(bytes(len(other)))
    manifest.shard_path(2).unlink()
    assert files.changed(every) == [1, 2]
    assert files.changed(every) == []
    assert not files.read(np.array([12])).bytes_of(0).any()  # the new file is read, not the old handle
    assert ShardFiles(manifest, stamps).changed(every) == []
