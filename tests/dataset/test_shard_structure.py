"""Tars and block headers held against the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_structure import HeaderChecks, check_shard
from fastcell.errors import DataError

MakeDataset = Callable[..., Manifest]


def records(manifest: Manifest) -> tuple[Path, np.ndarray, np.ndarray]:
    """Tar, offsets and sizes of a set of one shard."""
    offset, size = (manifest.column(name).astype(np.int64) for name in ("offset", "bytes"))
    return manifest.path / "shard-000000.tar", offset, size


def test_a_whole_shard_fits(make_dataset: MakeDataset) -> None:
    path, offset, size = records(make_dataset(90, num_shards=1))
    check_shard(path, offset, size)
    check_shard(path, offset[::-1], size[::-1], path.stat().st_size)
    check_shard(path, offset[:0], size[:0])


@pytest.mark.parametrize(("what", "by"), [("offset", 512), ("offset", 7), ("size", 1), ("size", 1 << 40)])
def test_records_that_are_not_there(make_dataset: MakeDataset, what: str, by: int) -> None:
    path, offset, size = records(make_dataset(30, num_shards=1))
    (offset if what == "offset" else size)[4] += by
    with pytest.raises(
        DataError, match=f"shard-000000.tar': no record of {size[4]:,} bytes begins at .* {offset[4]:,}"
    ):
        check_shard(path, offset, size)


def test_other_sizes_and_missing_shards(make_dataset: MakeDataset) -> None:
    path, offset, size = records(make_dataset(30, num_shards=1))
    with pytest.raises(DataError, match=r"it has [\d,]+ bytes, and had 1,000 when the manifest was made"):
        check_shard(path, offset, size, 1000)
    path.unlink()
    with pytest.raises(DataError, match="the shard is missing from"):
        check_shard(path, offset, size)


def test_shards_are_checked_when_their_last_cell_was_read(make_dataset: MakeDataset) -> None:
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


def test_headers_of_blocks(make_dataset: MakeDataset) -> None:
    manifest = make_dataset(60, layout="block", num_shards=1)
    assert HeaderChecks(manifest).rest() == []
    block = manifest.blocks().slice(2, 1).to_pylist()[0]
    with open(manifest.path / block["shard"], "r+b") as file:
        file.seek(block["offset"] + 9)
        file.write(b"\xff")
    (problem,) = HeaderChecks(manifest).rest()
    last = block["first_cell"] + block["num_cells"] - 1
    assert f"the first that of cells {block['first_cell']} to {last}" in problem
