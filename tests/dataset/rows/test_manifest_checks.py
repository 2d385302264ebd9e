"""Every number of an index that a reader would take at its word is refused on opening, with its row and value."""

import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.manifest_checks import ManifestChecks
from fastcell.dataset.rows.write_rows import write_quarantine
from fastcell.dataset.schema import QUARANTINE_SCHEMA, SCHEMA
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError, DataError


def change(path, column, value, row=4):
    """Put `value` into one row of a Parquet file; None for a null."""
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    values = table.column(column).to_pylist()
    values[row] = value
    pq.write_table(table.set_column(place, column, pa.array(values, table.schema.field(column).type)), path)


CELL_FAULTS = [
    ("cell_id", 3, "does not fit dataset.json"),
    ("cell_id", None, "column 'cell_id' must have a value in every row"),
    ("key", None, "column 'key' must have a value"),
    ("byte_hash", None, "column 'byte_hash' must have a value"),
    ("shard", "../../x.tar", "shard must be one of the shards of dataset.json, got '../../x.tar' in row 4"),
    ("shard", "shard-000001.tar", "offset must be after the end of the previous row"),
    ("offset", -512, "offset must be a multiple of 512 inside of the tar, got -512 in row 4"),
    ("offset", 513, "offset must be a multiple of 512 inside of the tar, got 513 in row 4"),
    ("offset", 1 << 40, "offset must be a multiple of 512 inside"),
    ("offset", 512, "offset must be after the end of the previous row, got 512 in row 4"),
    ("bytes", 0, "bytes must be at least 1, up to the end of the tar, got 0"),
    ("bytes", -5, "bytes must be at least 1"),
    ("bytes", (1 << 63) - 1, "bytes must be at least 1, up to the end of the tar, got 9223372036854775807"),
    ("bytes", 3000, "offset must be after the end of the previous row"),
    ("encoding", "exe", "encoding must be one of jpg, png, tif, npy, raw, got 'exe'"),
    ("encoding", "raw", "bytes must be the number of bytes for the size in pixels"),
    ("height", 0, "height must be at least 1"),
    ("height", -3, "height must be at least 1, with at most 67,108,864 pixels, got -3"),
    ("height", (1 << 31) - 1, "height must be at least 1, with at most"),
    ("width", -(1 << 31), "width must be at least 1"),
    ("depth", 16, "depth must be 8, or 16 where dataset.json has a window, got 16"),
    ("depth", 7, "depth must be 8"),
    ("channels", 0, "channels must be at least 1"),
    ("um_per_px", -1.0, "um_per_px must be above 0, or NaN"),
    ("um_per_px", float("inf"), "um_per_px must be above 0, or NaN"),
    ("mean_intensity", float("nan"), "mean_intensity must be from 0 to 255, got nan"),
    ("border_median", float("nan"), "border_median must be from 0 to 255, got nan"),
    ("border_median", 1e30, "border_median must be from 0 to 255"),
    ("class", "D", "class must be one of the classes of dataset.json, got 'D' in row 4"),
    ("block", 0, "block must be 0 or more in the block layout, -1 in the cell layout, got 0"),
]


@pytest.mark.parametrize(("column", "value", "message"), CELL_FAULTS)
def test_cells_that_cannot_be(make_dataset, column, value, message):
    manifest = make_dataset(30)
    change(manifest.path / "manifest.parquet", column, value)
    with pytest.raises(DataError, match=message) as caught:
        Manifest.open(manifest.path)
    assert str(manifest.path / "manifest.parquet") in str(caught.value)


def test_what_may_be_unknown_may_be_null(make_dataset):
    manifest = make_dataset(30)
    for column in ("class", "group", "collection", "um_per_px"):
        change(manifest.path / "manifest.parquet", column, None)
    opened = Manifest.open(manifest.path)
    assert opened.labels[4] == -1
    assert np.isnan(opened.column("um_per_px")[4])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("block", 2, "block of the manifest must be the block that has the cell, got 2 in row 4"),
        ("block", -1, "block must be 0 or more"),
        ("height", 1, "bytes must be the number of bytes for the size in pixels"),
        ("offset", 8, "offset must be a multiple of 1 inside of the tar"),
    ],
)
def test_cells_of_blocks_that_cannot_be(make_dataset, column, value, message):
    manifest = make_dataset(30, layout="block")
    change(manifest.path / "manifest.parquet", column, value)
    with pytest.raises(DataError, match=message):
        Manifest.open(manifest.path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("num_cells", 0, "num_cells must be at least 1, got 0 in row 1"),
        ("num_cells", -7, "num_cells must be at least 1"),
        ("num_cells", (1 << 31) - 1, "first_cell must be after the cells of the previous block"),
        ("first_cell", 3, "first_cell must be after the cells of the previous block, got 3 in row 1"),
        ("first_cell", None, "column 'first_cell' must have a value"),
        ("shard", "x.tar", "shard must be one of the shards of dataset.json, got 'x.tar'"),
        ("offset", -1, "offset must be a multiple of 512"),
        ("bytes", 1 << 50, "bytes must be at least 1, up to the end of the tar"),
        ("bytes", 1, "offset of a cell must be in its block"),
        ("split", "../x", "split must be empty or one of train, valid, test, got '../x'"),
    ],
)
def test_blocks_that_cannot_be(make_dataset, column, value, message):
    manifest = make_dataset(60, layout="block")
    change(manifest.path / "blocks.parquet", column, value, row=1)
    with pytest.raises(DataError, match=message) as caught:
        Manifest.open(manifest.path)
    assert "blocks.parquet" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("cell_id", 30, "names cells that the manifest does not have"),
        ("cell_id", -1, "names cells that the manifest does not have"),
        ("cell_id", 3, "cell_id must occur once for each cell"),
        ("cell_id", None, "column 'cell_id' must have a value"),
        ("split", "train-and-more", "split must be one of train, valid, test, got 'train-and-more'"),
    ],
)
def test_splits_that_cannot_be(make_dataset, column, value, message):
    manifest = make_dataset(30)
    change(manifest.path / "splits" / "default.parquet", column, value)
    with pytest.raises(DataError, match=message):
        Manifest.open(manifest.path).split()


@pytest.mark.parametrize("name", ["../manifest", "/etc/passwd", "a\0b", "..", ""])
def test_a_split_is_one_of_the_folder(make_dataset, name):
    with pytest.raises(ArgumentError, match="split_name must be one of default, got"):
        make_dataset(30).split(name)


@pytest.mark.parametrize("cell", [-1, 30, 1 << 62, -(1 << 63)])
def test_quarantine_of_cells_that_are_not_there(make_dataset, cell):
    manifest = make_dataset(30)
    row = {field.name: "x" for field in QUARANTINE_SCHEMA} | {"cell_id": cell}
    write_quarantine(manifest.path, pa.Table.from_pylist([row], schema=QUARANTINE_SCHEMA))
    with pytest.raises(DataError, match=r"quarantine\.parquet: cell_id must be null or a cell of the manifest"):
        select(manifest, ViewConfig())


@pytest.mark.parametrize("line", [",drop", "3,", "-1,drop", "30,drop", "99999999999999999999,drop", "1.5,drop"])
def test_verdicts_that_cannot_be(make_dataset, line):
    manifest = make_dataset(30)
    (manifest.path / "verdicts.csv").write_text(f"cell_id,verdict\n2,drop\n{line}\n")
    with pytest.raises(DataError, match=r"verdicts\.csv"):
        manifest.verdicts()


INFO_FAULTS = [
    ("name", 3, "name must be text, got 3"),
    ("classes", ["A", "A"], "classes must be different names"),
    ("classes", [1, 2], "classes must be different names"),
    ("classes", "ABC", "classes must be different names"),
    ("layout", "disk", "layout must be one of cell, block, got 'disk'"),
    ("layout", [], "layout must be one of"),
    ("shards", 7, "shards must be a list of different tars"),
    ("num_cells", -1, "num_cells must be a whole number >= 0"),
    ("num_cells", 1 << 70, "num_cells must be a whole number >= 0"),
    ("num_cells", 7, "does not fit dataset.json"),
    ("window", [0], "window must be null or two grey levels"),
    ("window", [5, 5], "window must be null or two grey levels"),
    ("window", [-(10**400), 1], "window must be null or two grey levels"),
    ("window", [0, float("nan")], "window must be null or two grey levels"),
    ("um_per_px", 0, "um_per_px must be null or a number above 0"),
    ("seed", "x" * 1000, "seed must be a whole number, got 'xxx"),
    ("created_by", None, "created_by must be text"),
]


@pytest.mark.parametrize(("field", "value", "message"), INFO_FAULTS)
def test_descriptions_that_cannot_be(make_dataset, field, value, message):
    path = make_dataset(30).path / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(DataError, match=message) as caught:
        Manifest.open(path.parent)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize(
    "change_of_shard",
    [
        {"name": "/etc/passwd"},
        {"name": "a/../../x.tar"},
        {"name": ""},
        {"name": ".."},
        {"name": "a\nb.tar"},
        {"name": "a\0.tar"},
        {"name": None},
        {"bytes": -1},
        {"bytes": 1 << 63},
        {"bytes": "9"},
        {"num_cells": None},
        {"num_cells": 10**30},
    ],
    ids=str,
)
def test_shards_that_cannot_be(make_dataset, change_of_shard):
    path = make_dataset(30).path / "dataset.json"
    info = json.loads(path.read_text())
    info["shards"][0] |= change_of_shard
    path.write_text(json.dumps(info))
    with pytest.raises(DataError, match="shards must be a list of different tars, each with a relative name"):
        Manifest.open(path.parent)


def test_cells_must_be_those_of_their_shards(make_dataset):
    path = make_dataset(30).path / "dataset.json"
    info = json.loads(path.read_text())
    info["shards"][0]["num_cells"] += 1
    path.write_text(json.dumps(info))
    with pytest.raises(DataError, match="cells must be those of dataset.json, got 10 of 'shard-000000.tar'"):
        Manifest.open(path.parent)


@pytest.mark.parametrize("content", [b"[" * 1_000_000, b'{"format_version": ' + b"9" * 5_000 + b"}", b"\xff", b"null"])
def test_json_that_is_no_description(make_dataset, content):
    path = make_dataset(30).path / "dataset.json"
    path.write_bytes(content)
    with pytest.raises(DataError):
        Manifest.open(path.parent)


def test_a_million_cells_are_checked_in_a_second(tmp_path):
    num = 1_000_000
    ids = np.arange(num)
    text = {"shard": "a.tar", "encoding": "png", "key": "k", "class": "A", "group": "g", "collection": "c"}
    columns = {
        field.name: pa.array([text[field.name]]).take(pa.array(np.zeros(num, np.int64)))
        if field.name in text
        else pa.array([bytes(16)] * num, field.type)
        if field.name.endswith("hash")
        else pa.array(np.ones(num), field.type)
        for field in SCHEMA
    }
    columns |= {
        "cell_id": pa.array(ids),
        "offset": pa.array(512 + 1024 * ids),
        "depth": pa.array(np.full(num, 8, np.int8)),
    }
    columns["block"] = pa.array(np.full(num, -1, np.int32))
    shards = [{"name": "a.tar", "bytes": 1024 * (num + 1), "num_cells": num}]
    begin = time.perf_counter()
    checks = ManifestChecks(DatasetInfo("m", ["A"], shards=shards, num_cells=num), tmp_path)
    checks.add(pa.table(columns, schema=SCHEMA))
    checks.finish()
    assert time.perf_counter() - begin < 2  # 0.15 s on an idle core
