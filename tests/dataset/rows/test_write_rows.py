"""The manifest is written in row groups, and dataset.json last."""

from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows import write_rows
from fastcell.dataset.rows.write_rows import write_manifest, write_quarantine
from fastcell.dataset.schema import QUARANTINE_SCHEMA

Make = Callable[..., Manifest]


def test_row_groups_and_the_description(make_dataset, tmp_path, monkeypatch):
    made, out = make_dataset(40), tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(write_rows, "group_rows", lambda num: 16)
    write_manifest(out, made.table, made.info)
    assert pq.read_metadata(out / "manifest.parquet").num_row_groups == 3
    assert Manifest.open(out).table.equals(made.table)
    (out / "manifest.parquet").unlink()
    (out / "manifest.parquet").mkdir()  # cannot be replaced
    (out / "dataset.json").unlink()
    with pytest.raises(OSError, match=r"manifest\.parquet"):
        write_manifest(out, made.table, made.info)
    assert not (out / "dataset.json").exists()


def test_a_quarantine_of_no_cells(tmp_path):
    write_quarantine(tmp_path, QUARANTINE_SCHEMA.empty_table())
    assert pq.read_table(tmp_path / "quarantine.parquet").schema == QUARANTINE_SCHEMA
