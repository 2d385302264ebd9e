"""Stored blocks to a table: every cell is read and answered, and the rates are those of the times."""

import numpy as np
import pytest


@pytest.fixture
def block_path(program):
    return program("block_path")


def test_every_cell_goes_from_its_block_to_the_table(block_path, tmp_path, monkeypatch):
    monkeypatch.setattr(block_path.stream, "pinned_bytes", lambda num: np.empty(num, np.uint8))
    manifest = block_path.make_blocks(tmp_path / "cells", 600, 12)
    assert len(manifest) == 600
    assert set(manifest.column("height")) == {12}
    row = block_path.measure(manifest, tmp_path, 12)
    assert (row.cells, row.num_cells) == ("12 x 12 px", 600)
    assert row.read_us > 0
    assert row.two_cores == pytest.approx(2e6 / (row.read_us + row.table_us))
    assert {path.name for path in tmp_path.iterdir()} == {"cells", "saved"}
    assert not any((tmp_path / "saved").iterdir())
