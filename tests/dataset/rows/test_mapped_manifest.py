"""A mapped manifest is the one in the Parquet file, is made once, and never outlives another content."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import read_parquet_parts
from fastcell.dataset.rows import mapped_manifest, read_rows
from fastcell.dataset.schema import SCHEMA
from fastcell.dataset.views import SteadyManifest, ViewConfig, select
from fastcell.errors import DataError

Make = Callable[..., Manifest]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Map manifests of any size, in parts of 7 rows, into a cache of this test."""
    monkeypatch.setattr(read_rows, "FEWEST_MAPPED_ROWS", 1)
    monkeypatch.setattr(
        mapped_manifest, "read_parquet_parts", lambda path, schema: read_parquet_parts(path, schema, part_rows=7)
    )
    monkeypatch.setenv("FASTCELL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "manifests"


def builds(cache):
    return sorted(str(path.relative_to(cache)) for path in cache.glob("*/columns-*"))


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_a_mapped_manifest_is_that_of_the_file(make_dataset, cache, layout):
    made = make_dataset(40, layout=layout)
    table = pq.read_table(made.path / "manifest.parquet")
    assert len(builds(cache)) == 1
    found = Manifest.open(made.path)
    assert found.mapped is not None
    assert found.table.equals(table.cast(SCHEMA))
    assert len(builds(cache)) == 1
    plain = Manifest(made.path, made.info, table.cast(SCHEMA))
    np.testing.assert_array_equal(found.labels, plain.labels)
    np.testing.assert_array_equal(found.encoding_codes, plain.encoding_codes)
    for name in SCHEMA.names:
        np.testing.assert_array_equal(found.column(name), plain.column(name))
    one, other = (select(SteadyManifest.of(manifest), ViewConfig("train")) for manifest in (found, plain))
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert (found.shards_of(np.arange(40)) == plain.shard_index).all()


def test_columns_of_numbers_are_shared_pages_of_files(make_dataset, cache):
    found = make_dataset(40)
    for values in (found.column("offset"), found.column("height"), found.class_codes):
        assert not values.flags.owndata
        assert not values.flags.writeable
    places = Path("/proc/self/maps").read_text()
    assert all(name in places for name in ("offset.npy", "height.npy", "class_codes.npy", "texts.arrow"))


def test_a_copy_is_recognised_by_its_content_and_another_content_is_read_anew(make_dataset, cache):
    path = make_dataset(40).path / "manifest.parquet"
    before = builds(cache)
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)  # same bytes, another inode and time
    assert Manifest.open(path.parent).mapped is not None
    assert builds(cache) == before
    table = pq.read_table(path)
    groups = pa.array(["other"] * 40, pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("group"), "group", groups), path)
    assert Manifest.open(path.parent).groups[:].tolist() == ["other"] * 40
    assert builds(cache) != before
    assert len(builds(cache)) == 1  # the old columns are gone


def test_rows_of_an_earlier_file_stay_as_they_were(make_dataset, cache):
    found = make_dataset(40)
    keys = found.table.column("key").to_pylist()
    shutil.rmtree(cache)
    assert found.table.column("key").to_pylist() == keys
    assert Manifest.open(found.path).table.equals(found.table)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("bytes", 0, "bytes must be at least 1, up to the end of the tar, got 0 in row 33"),
        ("class", "D", "class must be one of the classes of dataset.json, got 'D' in row 33"),
        ("cell_id", 3, "does not fit dataset.json"),
        ("offset", 512, "offset must be after the end of the previous row, got 512 in row 33"),
    ],
)
def test_every_row_is_checked(make_dataset, cache, column, value, message):
    path = make_dataset(40).path / "manifest.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    values = table.column(column).to_pylist()
    values[33] = value
    pq.write_table(table.set_column(place, column, pa.array(values, table.schema.field(column).type)), path)
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            Manifest.open(path.parent)
    pq.write_table(table.slice(0, 39), path)
    with pytest.raises(DataError, match="does not fit dataset.json"):
        Manifest.open(path.parent)


def test_blocks_are_checked_when_they_change(make_dataset, cache):
    path = make_dataset(40, layout="block").path / "blocks.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("num_cells")
    pq.write_table(table.set_column(place, "num_cells", pa.array([1] * len(table), pa.int32())), path)
    with pytest.raises(DataError, match=r"blocks.parquet"):
        Manifest.open(path.parent)


@pytest.mark.parametrize("fault", ["truncated", "missing", "other facts", "no folder"])
def test_damaged_files_of_the_cache_are_made_again(make_dataset, cache, fault):
    made = make_dataset(40)
    keys = made.table.column("key").to_pylist()
    (entry,) = cache.iterdir()
    file = next(entry.glob("columns-*")) / "offset.npy"
    if fault == "truncated":
        os.truncate(file, 100)
    elif fault == "missing":
        file.unlink()
    elif fault == "other facts":
        (entry / "facts.json").write_text("[]")
    else:
        shutil.rmtree(file.parent)
    found = Manifest.open(made.path)
    assert found.mapped is not None
    assert found.table.column("key").to_pylist() == keys
    assert len(builds(cache)) == 1


def test_without_a_cache_folder_rows_are_read_into_memory(make_dataset, cache, monkeypatch):
    made = make_dataset(40)
    monkeypatch.setenv("FASTCELL_CACHE_DIR", "/proc/none")
    assert Manifest.open(made.path).mapped is None
    monkeypatch.setenv("FASTCELL_CACHE_DIR", str(cache.parent / "full"))
    monkeypatch.setattr(mapped_manifest.shutil, "disk_usage", lambda _: _Usage)
    found = Manifest.open(made.path)
    assert found.mapped is None
    assert found.table.equals(made.table)


class _Usage:
    free = 0


def test_files_of_data_sets_that_are_gone_are_removed(make_dataset, cache, tmp_path):
    first = make_dataset(40)
    shutil.copytree(first.path, tmp_path / "second")
    shutil.rmtree(first.path)
    Manifest.open(tmp_path / "second")
    assert len(builds(cache)) == 1


def test_some_rows_are_not_mapped(make_dataset, cache):
    """The search for near copies sends manifests of some rows to other processes."""
    from dataclasses import replace

    found = make_dataset(40)
    some = replace(found, table=found.table.take([5, 39]).combine_chunks())
    assert some.mapped is None
    again = pickle.loads(pickle.dumps(some))
    assert again.labels.tolist() == found.labels[[5, 39]].tolist()
    assert again.shards_of(np.array([0, 1])).tolist() == found.shard_index[[5, 39]].tolist()


@pytest.mark.parametrize("count", [41, 1 << 40, (1 << 62) - 1])
def test_a_number_of_cells_that_is_not_that_of_the_rows(make_dataset, cache, count):
    """Nothing is prepared for the cells that ``dataset.json`` states; the usual reading tells what is wrong."""
    made = make_dataset(40)
    shutil.rmtree(cache, ignore_errors=True)
    info = json.loads((made.path / "dataset.json").read_text())
    (made.path / "dataset.json").write_text(json.dumps({**info, "num_cells": count}))
    with pytest.raises(DataError, match="does not fit dataset.json"):
        Manifest.open(made.path)
    assert builds(cache) == []


def test_a_manifest_that_is_no_parquet(make_dataset, cache):
    made = make_dataset(40)
    (made.path / "manifest.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(DataError, match="manifest.parquet"):
        Manifest.open(made.path)
