"""Single cells come back as they were packed, and damage is named by shard and key."""

import cv2
import numpy as np
import pytest

from fastcell.cli.pack import main as pack
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError


@pytest.fixture(params=["cell", "block"])
def packed(request, tmp_path):
    rng = np.random.default_rng(1)
    pictures = {}
    (tmp_path / "src" / "a").mkdir(parents=True)
    for i in range(12):
        pictures[f"a/{i}.png"] = rng.integers(0, 256, (5 + i, 9), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "src" / "a" / f"{i}.png"), pictures[f"a/{i}.png"])
    assert pack([str(tmp_path / "src"), str(tmp_path / "out"), "--layout", request.param]) == 0
    return Manifest.open(tmp_path / "out"), pictures


def test_pixels_in_the_order_asked_for(packed):
    manifest, pictures = packed
    rows = [7, 0, 7, 11]
    for row, cell in zip(rows, read_cells(manifest, rows), strict=True):
        assert np.array_equal(cell, pictures[manifest.column("key")[row]])


def test_damage_is_named(packed):
    manifest, _ = packed
    shard = manifest.shard_path(0)
    data = bytearray(shard.read_bytes())
    data[manifest.column("offset")[3] + 4] ^= 1
    shard.write_bytes(data)
    key = manifest.column("key")[3]
    with pytest.raises(DataError, match="not those that were packed") as caught:
        list(read_cells(manifest, [3]))
    assert (caught.value.shard, caught.value.key) == (shard.name, key)
    shard.write_bytes(data[: manifest.column("offset")[3] + 1])
    with pytest.raises(DataError, match="ends before the cell does"):
        list(read_cells(manifest, [3]))
    shard.unlink()
    with pytest.raises(DataError, match="shard is missing"):
        list(read_cells(manifest, [3]))
