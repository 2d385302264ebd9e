import json
import os
import pickle
import shutil

import numpy as np
import pytest

from fastcell.dataset.dataset_info import read_info
from fastcell.dataset.integrity import REASONS, check_stored_bytes
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError, DataError
from fastcell.remote.object_cache import ObjectCache
from fastcell.remote.place import TRIES


def same_rows(first, second):
    return all(
        np.array_equal(first.column(name), second.column(name)) for name in ("key", "byte_hash", "offset", "class")
    )


def rows_of(manifest, shard):
    return np.flatnonzero(manifest.shard_index == shard).tolist()


@pytest.mark.parametrize("lists", [True, False])
def test_tables_are_those_on_disk(served, web_store, shards_on_disk, cache, lists):
    web_store.lists = lists
    remote, disk = Manifest.open(served, cache), Manifest.open(shards_on_disk)
    assert same_rows(remote, disk)
    assert read_info(served, cache) == disk.info
    assert remote.split_names() == ["default"]
    assert (remote.split() == disk.split()).all()
    assert remote.place == served
    assert served in repr(remote)


def test_unchanged_tables_are_copied_once(served, web_store, cache):
    Manifest.open(served, cache)
    web_store.faults.requests.clear()
    Manifest.open(served, cache)
    assert not [path for method, path, wanted in web_store.faults.requests if wanted]


def test_tables_follow_the_address(served, web_store, cache):
    folder = web_store.folder / "cells"
    Manifest.open(served, cache)
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(info | {"name": "other"}))
    (folder / "verdicts.csv").write_text("cell_id,verdict\n3,drop\n")
    opened = Manifest.open(served, cache)
    assert opened.info.name == "other"
    assert np.flatnonzero(~opened.verdicts()).tolist() == [3]
    (folder / "verdicts.csv").unlink()
    assert Manifest.open(served, cache).verdicts().all()


def test_a_damaged_copy_of_a_table_is_replaced(served, cache):
    opened = Manifest.open(served, cache)
    (opened.path / "manifest.parquet").unlink()
    assert same_rows(Manifest.open(served, cache), opened)


def test_no_data_set_at_the_address(web_store, cache):
    with pytest.raises(DataError, match=f"{web_store.url}/nothing is not a packed data set"):
        Manifest.open(f"{web_store.url}/nothing", cache)


def test_all_cells_are_those_packed(opened, web_store):
    assert not check_stored_bytes(opened, jobs=2).any()
    assert not check_stored_bytes(opened, jobs=2).any()
    assert [web_store.faults.bytes_of(shard["name"]) for shard in opened.info.shards] == [1] * 6


def test_single_cells_come_by_range(opened, shards_on_disk, web_store):
    rows = [41, 3, 4, 17]
    disk = Manifest.open(shards_on_disk)
    web_store.faults.requests.clear()
    for depth in (8, 16):
        for got, expected in zip(
            read_cells(opened, rows, depth=depth), read_cells(disk, rows, depth=depth), strict=True
        ):
            assert np.array_equal(got, expected)
    sizes = opened.column("bytes")
    lengths = [wanted.removeprefix("bytes=").split("-") for method, _, wanted in web_store.faults.requests if wanted]
    assert sum(int(last) - int(first) + 1 for first, last in lengths) == 2 * sizes[rows].sum()


def test_single_cells_of_a_server_that_sends_no_ranges(opened, shards_on_disk, web_store):
    """The second cell of a shard comes from the cache, and not with the whole shard again."""
    web_store.ranges = False
    (name, size), *_ = opened.shard_sizes.items()
    data = (shards_on_disk / name).read_bytes()
    for begin in (512, 1024, 2048):
        ends = [(begin, begin + 9), (begin + 40, begin + 41), (size - 3, size + 20)]
        assert opened.remote.read_ranges(name, size, ends) == [data[first:last] for first, last in ends]
    assert web_store.faults.bytes_of(name) == 2


def test_a_server_that_cannot_be_reached_is_asked_once(cache, monkeypatch):
    asked = []
    monkeypatch.setattr("fastcell.remote.place.time.sleep", asked.append)
    with pytest.raises(DataError, match=r"^http://127.0.0.1:1/cells/dataset.json cannot be read"):
        Manifest.open("http://127.0.0.1:1/cells", cache)
    assert len(asked) == TRIES - 1


def test_a_damaged_description_is_named_by_its_address(served, web_store, cache):
    (web_store.folder / "cells" / "dataset.json").write_bytes(b"")
    with pytest.raises(DataError, match=f"^{served}/dataset.json is not a dataset.json of fastcell"):
        Manifest.open(served, cache)


def test_a_server_that_tells_no_sizes(served, web_store, cache, shards_on_disk, monkeypatch):
    monkeypatch.setattr("fastcell.remote.place.time.sleep", lambda _: None)
    web_store.sizes = False
    manifest = Manifest.open(served, cache)
    for name, size in manifest.shard_sizes.items():
        handle = manifest.open_shard(name)
        assert os.read(handle, size + 1) == (shards_on_disk / name).read_bytes()
        os.close(handle)
    (web_store.folder / "cells" / name).write_bytes(b"another")
    manifest.remote.cache.path_of(*manifest.remote._known(name, size)).unlink()
    with pytest.raises(DataError, match=f"{name} has changed since the data set was opened"):
        manifest.open_shard(name)


def test_a_shard_that_was_never_there(served, web_store, cache):
    (web_store.folder / "cells" / "shard-000002.tar").unlink()
    opened = Manifest.open(served, cache)
    codes = check_stored_bytes(opened)
    assert {REASONS[code] for code in codes[rows_of(opened, 2)]} == {"the shard is missing"}
    assert not np.delete(codes, rows_of(opened, 2)).any()
    with pytest.raises(DataError, match=r"shard-000002.*missing"):
        next(read_cells(opened, rows_of(opened, 2)))


def test_a_shard_that_vanishes_or_changes(opened, web_store):
    assert opened.remote is not None
    name = opened.info.shards[1]["name"]
    opened.remote._known(name, 0)  # as a pass does before it downloads the shard
    path = web_store.folder / "cells" / name
    kept = path.read_bytes()
    path.write_bytes(bytes(len(kept)))
    with pytest.raises(DataError, match=f"{name} has changed since"):
        check_stored_bytes(opened)
    path.unlink()
    with pytest.raises(DataError, match=f"{name} has vanished since"):
        check_stored_bytes(opened)
    path.write_bytes(kept)
    assert not check_stored_bytes(opened).any()


def test_wrong_bytes_at_the_address_are_findings(served, web_store, cache):
    path = web_store.folder / "cells" / "shard-000004.tar"
    opened = Manifest.open(served, cache)
    row = rows_of(opened, 4)[3]
    data = bytearray(path.read_bytes())
    data[opened.column("offset")[row] + 5] ^= 1
    path.write_bytes(data)
    codes = check_stored_bytes(opened, jobs=3)
    assert np.flatnonzero(codes).tolist() == [row]
    assert web_store.faults.bytes_of(path.name) == 2  # the fault might have been the cache's


def test_wrong_bytes_in_the_cache_are_downloaded_again(opened, web_store):
    path = opened.shard_path(4)
    data = bytearray(path.read_bytes())
    data[opened.column("offset")[rows_of(opened, 4)[3]] + 5] ^= 1
    path.write_bytes(data)
    assert not check_stored_bytes(opened, jobs=3).any()
    assert web_store.faults.bytes_of(path.name) == 2


def test_a_pickled_manifest_reads_on(opened):
    again = pickle.loads(pickle.dumps(opened))
    assert not check_stored_bytes(again).any()


def test_nothing_is_written_to_a_web_server(opened):
    with pytest.raises(ArgumentError, match="DATA must be in a place that can be written, got 'http://"):
        opened.check_writable()


def test_tables_are_written_to_other_stores(shards_on_disk, cache):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(shards_on_disk), "/written/cells", recursive=True)
    opened = Manifest.open("memory://written/cells", cache)
    opened.check_writable()
    assert not [path for path in memory.ls("/written/cells", detail=False) if "probe" in path]
    (opened.path / "verdicts.csv").write_text("cell_id,verdict\n5,drop\n")
    opened.written("verdicts.csv")
    assert memory.cat("/written/cells/verdicts.csv") == b"cell_id,verdict\n5,drop\n"
    shutil.rmtree(cache.folder)
    assert np.flatnonzero(~Manifest.open("memory://written/cells", cache).verdicts()).tolist() == [5]
    memory.rm("/written", recursive=True)


def test_tables_are_removed_from_other_stores(shards_on_disk, cache):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(shards_on_disk), "/removed/cells", recursive=True)
    opened = Manifest.open("memory://removed/cells", cache)
    assert opened.split_names() == ["default"]
    opened.remove("splits/default.parquet")
    opened.remove("splits/never.parquet")
    assert Manifest.open("memory://removed/cells", cache).split_names() == []
    assert not memory.exists("/removed/cells/splits/default.parquet")
    opened.path.joinpath("verdicts.csv").write_text("cell_id,verdict\n5,drop\n")
    opened.written("verdicts.csv")
    memory.pipe("/removed/cells/verdicts.csv", b"cell_id,verdict\n6,drop\n7,drop\n")
    with pytest.raises(DataError, match=r"verdicts\.csv has changed since the data set was opened"):
        opened.remove("verdicts.csv")
    memory.rm("/removed", recursive=True)


def test_a_table_that_another_machine_has_written_is_not_replaced(shards_on_disk, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(shards_on_disk), "/written/cells", recursive=True)
    here, there = (Manifest.open("memory://written/cells", ObjectCache(tmp_path / name, 1 << 30)) for name in "ab")
    for opened, cell in ((here, 5), (there, 6)):
        (opened.path / "verdicts.csv").write_text(f"cell_id,verdict\n{cell},drop\n")
    here.written("verdicts.csv")
    here.written("verdicts.csv")
    with pytest.raises(DataError, match=r"verdicts\.csv has changed since the data set was opened"):
        there.written("verdicts.csv")
    assert memory.cat("/written/cells/verdicts.csv") == b"cell_id,verdict\n5,drop\n"
    memory.rm("/written", recursive=True)


def test_open_shard_is_a_file_of_this_machine(opened, shards_on_disk):
    name = opened.info.shards[0]["name"]
    handle = opened.open_shard(name)
    assert os.pread(handle, 1 << 24, 0) == (shards_on_disk / name).read_bytes()
    os.close(handle)


@pytest.mark.slow
def test_s3_with_faults_holds_what_is_on_disk(s3_store, shards_on_disk, cache):
    address = s3_store.put(shards_on_disk, "some/cells")
    s3_store.faults.every = 7
    opened = Manifest.open(address, cache)
    assert same_rows(opened, Manifest.open(shards_on_disk))
    assert not check_stored_bytes(opened, jobs=4).any()
    s3_store.faults.every = 0
    (opened.path / "verdicts.csv").write_text("cell_id,verdict\n5,drop\n")
    opened.check_writable()
    opened.written("verdicts.csv")
    names = s3_store.names("some/cells")
    assert names["verdicts.csv"] == b"cell_id,verdict\n5,drop\n"
    assert not [name for name in names if "probe" in name]
    s3_store.client.delete_object(Bucket=address.split("/")[2], Key="some/cells/shard-000003.tar")
    opened.shard_path(3).unlink()
    with pytest.raises(DataError, match=r"shard-000003\.tar has vanished since"):
        check_stored_bytes(opened)
    opened = Manifest.open(address, cache)
    assert {REASONS[code] for code in check_stored_bytes(opened)[rows_of(opened, 3)]} == {"the shard is missing"}
