"""The sidecar of features: by cell, with gaps, and held against the manifest."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.parquet import write_parquet
from fastcell.dataset.rows.instrument_features import FILE, MAX_FEATURES, Features, write_features
from fastcell.errors import ArgumentError, DataError
from fastcell.packing.verify import verify
from fastcell.report.data_summary import describe_contents


def pieces():
    yield ["cell-00002.png", "gone.png", "cell-00000.png"], {"a": np.array([2.5, 9.0, 0.5]), "b": np.array([2, 9, 0])}
    yield ["cell-00001.png"], {"a": np.array([np.nan])}


def test_features_stand_at_their_cells(make_dataset):
    manifest = make_dataset(5)
    assert manifest.features() is None
    assert manifest.feature_names() == []
    write_features(manifest.path, Features(["a", "b", "cell_id"], pieces), manifest.table.column("key"))
    features = manifest.features()
    assert features is not None
    assert features.column_names == ["cell_id", "a", "b", "cell_id_2"]
    assert features.column("cell_id").to_pylist() == [0, 1, 2, 3, 4]
    assert features.column("a").to_pylist() == [0.5, None, 2.5, None, None]  # NaN is none
    assert features.column("b").to_pylist() == [0.0, None, 2.0, None, None]
    assert features.column("cell_id_2").null_count == 5
    assert "features: 3 of the instrument (a, b, cell_id_2)" in describe_contents(manifest)
    assert verify(manifest.path).whole


def test_features_that_do_not_fit_are_refused(make_dataset):
    manifest = make_dataset(5)

    def refused(table, match):
        write_parquet(manifest.path / FILE, table)
        with pytest.raises(DataError, match=match):
            manifest.features()
        assert not verify(manifest.path).whole

    refused(pa.table({"cell_id": [5], "a": [1.0]}), r"cell_id must be a cell of the manifest, got 5 in row 0")
    refused(pa.table({"cell_id": [-1], "a": [1.0]}), r"got -1 in row 0")
    refused(pa.table({"cell_id": pa.array([None], pa.int64()), "a": [1.0]}), "must have a value in every row")
    refused(pa.table({"cell_id": [1], "a": ["x"]}), "columns of float64")
    refused(pa.table({"a": [1.0]}), "must have a column cell_id")
    (manifest.path / FILE).write_bytes(b"PAR1")
    with pytest.raises(DataError, match="features.parquet cannot be read"):
        manifest.features()


def test_too_many_features_are_refused(make_dataset):
    manifest = make_dataset(5)
    names = [str(i) for i in range(MAX_FEATURES + 1)]
    with pytest.raises(ArgumentError, match="features must be at most 1,000 columns"):
        write_features(manifest.path, Features(names, pieces), manifest.table.column("key"))


def test_memory_of_writing_does_not_grow_with_the_cells(make_dataset):
    """One row group for each piece."""
    manifest = make_dataset(5)
    write_features(manifest.path, Features(["a", "b"], pieces), manifest.table.column("key"))
    assert pq.ParquetFile(manifest.path / FILE).num_row_groups == 2
