"""Rows are mapped from a number of them on; either way they are those of the file."""

from collections.abc import Callable

import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows import read_rows as module
from fastcell.dataset.rows.read_rows import read_manifest_rows
from fastcell.errors import DataError

Make = Callable[..., Manifest]


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_few_rows_are_in_memory_and_many_mapped(make_dataset, tmp_path, monkeypatch, layout):
    monkeypatch.setenv("FASTCELL_CACHE_DIR", str(tmp_path / "cache"))
    made = make_dataset(40, layout=layout)
    table, mapped = read_manifest_rows(made.path, made.info)
    assert mapped is None
    monkeypatch.setattr(module, "FEWEST_MAPPED_ROWS", 40)
    same, mapped = read_manifest_rows(made.path, made.info)
    assert mapped is not None
    assert same.equals(table)
    (made.path / "manifest.parquet").unlink()
    with pytest.raises(DataError, match="is missing"):
        read_manifest_rows(made.path, made.info)
