"""The manifest comes back as it was written, and a damaged one is named."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.dataset_info import DatasetInfo, read_info
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.split_table import write_split
from fastcell.dataset.rows.write_rows import write_manifest
from fastcell.dataset.schema import SCHEMA
from fastcell.errors import ArgumentError, DataError


@pytest.fixture
def written(tmp_path):
    num = 5
    columns = {
        "cell_id": range(num),
        "key": [f"A/{i}.png" for i in range(num)],
        "shard": ["s0.tar", "s0.tar", "s1.tar", "s1.tar", "s1.tar"],
        "offset": [512, 1536, 512, 1536, 2560],
        "bytes": [10] * num,
        "encoding": ["png"] * num,
        "height": [3] * num,
        "width": [4] * num,
        "depth": [8] * num,
        "channels": [1] * num,
        "um_per_px": [float("nan")] * num,
        "class": ["b", "a", None, "a", "b"],
        "group": ["g1", None, "g1", "g2", "g2"],
        "collection": [None] * num,
        "byte_hash": [b"0123456789abcdef"] * num,
        "pixel_hash": [b"0123456789abcdef"] * num,
        "mean_intensity": [1.5] * num,
        "border_median": [2.0] * num,
        "block": [-1] * num,
    }
    table = pa.table({field.name: pa.array(columns[field.name], field.type) for field in SCHEMA}, schema=SCHEMA)
    shards = [{"name": name, "bytes": 4096, "num_cells": n} for name, n in (("s0.tar", 2), ("s1.tar", 3))]
    info = DatasetInfo("name", ["a", "b"], shards=shards, num_cells=num, window=[400.0, 1400.0], seed=3)
    write_manifest(tmp_path, table, info)
    write_split(tmp_path, "default", np.array(["train", "", "test", "valid", "train"]))
    return tmp_path


def test_round_trip(written):
    manifest = Manifest.open(written)
    assert manifest.info.window == [400.0, 1400.0]
    assert manifest.labels.tolist() == [1, 0, -1, 0, 1]
    assert manifest.shard_index.tolist() == [0, 0, 1, 1, 1]
    assert manifest.groups is not None
    assert manifest.groups[:].tolist() == ["g1", "", "g1", "g2", "g2"]
    assert manifest.column("offset").tolist() == [512, 1536, 512, 1536, 2560]
    assert manifest.column("byte_hash")[0] == b"0123456789abcdef"
    assert manifest.split().tolist() == ["train", "", "test", "valid", "train"]
    assert manifest.quarantine().num_rows == 0
    assert manifest.shard_path(1) == written / "s1.tar"


def test_unknown_split_lists_those_there_are(written):
    with pytest.raises(ArgumentError, match="split_name must be one of default, got 'fold-0'"):
        Manifest.open(written).split("fold-0")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset.json", b"{", "is not a dataset.json"),
        ("dataset.json", b'{"format_version": 99}', "data set format must be 1, got 99"),
        ("dataset.json", b'{"format_version": 1}', "is not a dataset.json"),
        ("dataset.json", b"[]", "is not a dataset.json"),
        ("manifest.parquet", b"PAR1", "cannot be read"),
        ("splits/default.parquet", b"", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(written, name, content, message):
    (written / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        Manifest.open(written).split()


def test_a_missing_manifest_and_a_wrong_folder(written, tmp_path):
    (written / "manifest.parquet").unlink()
    with pytest.raises(DataError, match=r"manifest\.parquet is missing"):
        Manifest.open(written)
    with pytest.raises(DataError, match="no such folder"):
        read_info(tmp_path / "nowhere")


def test_rows_that_do_not_fit_the_description(written):
    table = pq.read_table(written / "manifest.parquet")
    pq.write_table(table.slice(0, 4), written / "manifest.parquet")
    with pytest.raises(DataError, match=r"does not fit dataset\.json"):
        Manifest.open(written)


def test_a_split_of_other_cells_is_refused(written):
    write_split(written, "default", np.array(["train"] * 9))
    with pytest.raises(DataError, match=r"default\.parquet must have at most 5 rows, got 9"):
        Manifest.open(written).split()


def test_a_subset_of_another_name_is_not_written(written):
    with pytest.raises(ArgumentError, match="split must be one of train, valid, test, or empty, got 'left'"):
        write_split(written, "odd", np.array(["left", "train", "", "", ""]))
    assert Manifest.open(written).split_names() == ["default"]


def test_a_split_as_numbers(written):
    manifest = Manifest.open(written)
    codes = manifest.split_codes()
    assert codes.dtype == np.int8
    assert codes.tolist() == [0, -1, 2, 1, 0]
    write_split(written, "again", codes)
    assert manifest.split("again").tolist() == manifest.split().tolist()
