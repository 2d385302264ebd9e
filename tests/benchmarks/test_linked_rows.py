"""Manifests of many rows over few stored cells are true ones."""

import numpy as np
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.simulator.synth import synthesize


@pytest.fixture
def linked_rows(program):
    return program("linked_rows")


def test_rows_share_stored_cells_and_nothing_else(linked_rows, tmp_path):
    base = synthesize(tmp_path / "base", 40, 0, shard_cells=20, jobs=1)
    many = linked_rows.make_rows(base, tmp_path / "many", 100, 20)
    assert len(Manifest.open(tmp_path / "many")) == len(many) == 100
    origin = np.arange(100) % 40
    assert many.labels.tolist() == base.labels[origin].tolist()
    assert many.split().tolist() == base.split()[origin].tolist()
    assert len(set(many.column("key"))) == len(set(many.column("pixel_hash"))) == 100
    rows = [3, 47, 99]  # read with their hashes
    pixels = zip(read_cells(many, rows), read_cells(base, [3, 7, 19]), strict=True)
    assert all(np.array_equal(here, there) for here, there in pixels)
    assert (tmp_path / "many" / "shard-000004.tar").samefile(tmp_path / "base" / "shard-000000.tar")


def test_repeated_blocks_are_a_true_set(linked_rows, tmp_path):
    base = synthesize(tmp_path / "base", 50, 0, shard_cells=30, block_cells=8, layout="block", jobs=1)
    linked_rows.repeat_blocks(base, tmp_path / "many", 3)
    many = Manifest.open(tmp_path / "many")
    assert len(many) == 150
    assert many.labels.tolist() == base.labels.tolist() * 3
    assert many.split().tolist() == base.split().tolist() * 3
    assert len(set(many.column("key"))) == len(set(many.column("pixel_hash"))) == 150
    pixels = zip(read_cells(many, range(150)), [*read_cells(base, range(50))] * 3, strict=True)
    assert all(np.array_equal(here, there) for here, there in pixels)
