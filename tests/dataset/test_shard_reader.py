"""Stored bytes as they lie in the tars, in any choice of cells, and reasons for those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastcell.dataset.integrity import MISSING, REASONS, SHORT
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import ShardFiles

MakeDataset = Callable[..., Manifest]


def stored(manifest: Manifest, cell_id: int) -> bytes:
    row = manifest.table.slice(cell_id, 1).to_pylist()[0]
    data = (manifest.path / row["shard"]).read_bytes()
    return data[row["offset"] : row["offset"] + row["bytes"]]


def test_bytes_are_those_of_the_tars(make_dataset: MakeDataset) -> None:
    for layout in ("cell", "block"):
        manifest = make_dataset(90, name=layout, layout=layout, num_shards=4)
        files = ShardFiles(manifest, {})
        for cells in (np.arange(90), np.array([0, 40, 41, 89]), np.array([7]), np.arange(0, 90, 11)):
            found = files.read(cells)
            assert found.cell_ids.tolist() == cells.tolist()
            assert found.reasons == {}
            for place, cell in enumerate(cells.tolist()):
                assert found.bytes_of(place).tobytes() == stored(manifest, cell)
        assert len(files.read(np.empty(0, np.int64)).cell_ids) == 0


def test_shards_that_are_gone_or_cut_give_reasons(make_dataset: MakeDataset) -> None:
    manifest = make_dataset(60, num_shards=3)
    expected = {cell: stored(manifest, cell) for cell in range(40)}
    (manifest.path / "shard-000002.tar").unlink()
    cut = int(manifest.column("offset")[30])
    with open(manifest.path / "shard-000001.tar", "r+b") as file:
        file.truncate(cut)
    found = ShardFiles(manifest, {}).read(np.arange(60))
    assert found.reasons == {
        **dict.fromkeys(range(30, 40), REASONS[SHORT]),
        **dict.fromkeys(range(40, 60), REASONS[MISSING]),
    }
    for cell in range(30):
        assert found.bytes_of(cell).tobytes() == expected[cell]
