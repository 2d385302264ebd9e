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
    times = block_path.measure(manifest, tmp_path)
    assert all(seconds > 0 for seconds in times)
    row = block_path.as_row(12, 600, [(0.006, 0.004, 0.005), (0.009, 0.003, 0.004)])
    assert (row.cells, row.num_cells) == ("12 x 12 px", 600)
    assert (row.read_us, row.table_us) == pytest.approx((5, 5))  # the lowest of the rounds
    assert (row.two_cores, row.wall) == pytest.approx((200_000, 150_000))
    assert {path.name for path in tmp_path.iterdir()} == {"cells", "saved"}
    assert not any((tmp_path / "saved").iterdir())
