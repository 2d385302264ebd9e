"""Tars and block headers held against the manifest."""

import os
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from fixtures.written_bytes import overwrite

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_structure import HeaderChecks, check_shard
from fastcell.errors import DataError

MakeDataset = Callable[..., Manifest]


def test_shards_are_checked_when_their_last_cell_was_read(make_dataset):
    manifest = make_dataset(60, num_shards=3)
    shutil.copy(manifest.path / "shard-000000.tar", manifest.path / "shard-000001.tar")
    (manifest.path / "shard-000002.tar").unlink()
    checks = HeaderChecks(manifest)
    rows = np.arange(20, 40)
    assert checks.after(rows[:19]) == []
    assert len(checks.after(rows[19:])) == 1
    assert checks.after(np.arange(20)) == []
    (problem,) = checks.rest()
    assert "shard-000002.tar" in problem
    assert checks.rest() == []


def problems(manifest):
    """What is found when the cells of each shard were read in two parts, and what is left for the end."""
    heads = HeaderChecks(manifest)
    shards = manifest.shard_index
    found = []
    for number in range(len(manifest.info.shards)):
        rows = np.flatnonzero(shards == number)
        assert heads.after(rows[:3]) == []  # not the last of its cells
        found += heads.after(rows[3:])
    assert heads.rest() == []
    return found


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_a_whole_set_has_no_problem(make_dataset, layout):
    manifest = make_dataset(40, layout=layout)
    assert problems(manifest) == []
    assert HeaderChecks(manifest).rest() == []
    assert HeaderChecks(manifest).after(np.empty(0, np.int64)) == []


def test_a_damaged_tar_header_is_found(make_dataset):
    manifest = make_dataset(40)
    offset = int(manifest.column("offset")[15])
    overwrite(manifest.shard_path(1), offset - 512 + 130, b"9")
    (line,) = problems(manifest)
    size = int(manifest.column("bytes")[15])
    assert line.startswith(f"shard 'shard-000001.tar': no record of {size:,} bytes begins at byte {offset:,}.")


def test_shards_of_another_size_and_missing_ones(make_dataset):
    manifest = make_dataset(40)
    os.truncate(manifest.shard_path(0), 1024)
    manifest.shard_path(1).unlink()
    manifest.shard_path(2).unlink()
    manifest.shard_path(2).mkdir()
    size = manifest.info.shards[0]["bytes"]
    first, second, third = problems(manifest)
    assert f"shard 'shard-000000.tar': it has 1,024 bytes, and had {size:,} when the manifest was made." in first
    assert second.startswith("shard 'shard-000001.tar': the shard is missing from")
    assert third == "shard 'shard-000002.tar': it is not a file."


def test_damaged_headers_of_blocks_are_counted(make_dataset):
    manifest = make_dataset(60, layout="block", num_shards=1, block_cells=6)
    blocks = manifest.blocks().to_pylist()
    for number in (2, 3):
        overwrite(manifest.shard_path(0), blocks[number]["offset"] + 40, b"\xff")
    (line,) = problems(manifest)
    first = blocks[2]["first_cell"]
    assert f"of 2 of its {len(blocks)} blocks are damaged" in line
    assert f"cells {first} to {first + blocks[2]['num_cells'] - 1}" in line


def records_of(manifest):
    mine = manifest.shard_index == 0
    return manifest.shard_path(0), manifest.column("offset")[mine], manifest.column("bytes")[mine]


def test_records_are_held_against_the_tar(make_dataset):
    path, offsets, sizes = records_of(make_dataset(40))
    check_shard(path, offsets, sizes)
    check_shard(path, offsets[::-1], sizes[::-1], path.stat().st_size)
    check_shard(path, offsets[:0], sizes[:0])
    for place, (offset, size) in enumerate([(0, 1), (513, 1), (1024, 0), (1024, 1 << 40)]):
        wrong_offsets, wrong_sizes = offsets.copy(), sizes.copy()
        wrong_offsets[place], wrong_sizes[place] = offset, size
        with pytest.raises(DataError, match=rf"no record of {size:,} bytes begins at byte {offset:,}\. Restore it"):
            check_shard(path, wrong_offsets, wrong_sizes)
    with pytest.raises(DataError, match="no record of"):
        check_shard(path, offsets, sizes + 1)
    with pytest.raises(DataError, match="had 5 when the manifest was made"):
        check_shard(path, offsets, sizes, 5)


def test_many_records_are_checked_by_a_spread_of_them(make_dataset):
    path, offsets, sizes = records_of(make_dataset(300, num_shards=1))
    overwrite(path, int(offsets[-1]) - 512 + 130, b"9")  # the last one is always looked at
    with pytest.raises(DataError, match=f"begins at byte {int(offsets[-1]):,}"):
        check_shard(path, offsets, sizes)


def test_every_record_is_held_against_the_size_of_the_file(make_dataset):
    path, offsets, sizes = records_of(make_dataset(300, num_shards=1))
    sizes = sizes.copy()
    sizes[1] = 1 << 40  # its header is not among those that are read
    with pytest.raises(DataError, match="no record of 1,099,511,627,776 bytes"):
        check_shard(path, offsets, sizes)
