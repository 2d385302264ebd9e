import shutil

import numpy as np
import pytest
from fixtures.stores import serve_folder

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.loading.stores import downloads
from fastcell.loading.stores.downloads import shards_by_range
from fastcell.loading.stores.reading import PieceReader
from fastcell.remote.object_cache import ObjectCache


@pytest.fixture
def store(trained_data, tmp_path):
    from fastcell.simulator.synth import synthesize

    synthesize(tmp_path / "served" / "cells", 120, seed=0, shard_cells=40, jobs=1)
    with serve_folder(tmp_path / "served") as store:
        yield store


@pytest.fixture
def opened(store, tmp_path):
    return Manifest.open(f"{store.url}/cells", ObjectCache(tmp_path / "objects-here", 1 << 30))


def read(manifest, order, corrupt=None):
    reader = PieceReader(manifest, CorruptCells(manifest, "error") if corrupt is None else corrupt, raw=False)
    pieces = list(reader.pieces(order, np.append(np.arange(0, len(order), 8), len(order)), 2))
    found = []
    for piece in pieces:
        found += [piece.stored.bytes_of(place).tobytes() for place in piece.places]
    return found


def test_a_pass_reads_what_is_on_disk(opened, store):
    disk = Manifest.open(store.folder / "cells")
    order = np.random.default_rng(0).permutation(120)
    assert read(opened, order) == read(disk, order)
    assert [store.faults.bytes_of(shard["name"]) for shard in opened.info.shards] == [1, 1, 1]


def test_few_cells_of_a_large_shard_come_by_range(opened, store, monkeypatch):
    monkeypatch.setattr(downloads, "_SMALL_BYTES", 1000)
    disk = Manifest.open(store.folder / "cells")
    order = np.array([3, 50, 4, 51])
    assert shards_by_range(opened, [order]) == {0, 1}
    assert shards_by_range(disk, [order]) == frozenset()
    assert shards_by_range(opened, [np.empty(0, np.int64)]) == frozenset()
    assert read(opened, order) == read(disk, order)
    sent = [wanted[6:].split("-") for _, path, wanted in store.faults.requests if path.endswith(".tar") and wanted]
    assert sum(int(last) - int(first) for first, last in sent) < 20_000
    opened.shard_path(0)
    assert shards_by_range(opened, [order]) == {1}
    assert shards_by_range(opened, np.arange(120)) == frozenset()


def test_damage_in_the_cache_is_repaired_and_damage_at_the_address_is_not(opened, store):
    row = 45
    place = int(opened.column("offset")[row]) + 3
    for path in (opened.shard_path(1), store.folder / "cells" / "shard-000001.tar"):
        corrupt = CorruptCells(opened, "replace")
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
        if path.is_relative_to(store.folder):
            shutil.rmtree(opened.remote.cache.folder)
            opened = Manifest.open(f"{store.url}/cells", opened.remote.cache)
            corrupt = CorruptCells(opened, "replace")
            read(opened, np.arange(120), corrupt)
            assert list(corrupt.reasons) == [row]
        else:
            read(opened, np.arange(120), corrupt)
            assert not corrupt.reasons


def test_by_range_damage_and_missing_shards_are_reported(opened, store, monkeypatch):
    monkeypatch.setattr(downloads, "_SMALL_BYTES", 1000)
    path = store.folder / "cells" / "shard-000001.tar"
    data = bytearray(path.read_bytes())
    data[int(opened.column("offset")[45]) + 3] ^= 1
    path.write_bytes(data)
    corrupt = CorruptCells(opened, "replace")
    read(opened, np.array([3, 45, 46]), corrupt)
    assert list(corrupt.reasons) == [45]
    (store.folder / "cells" / "shard-000002.tar").unlink()
    read(opened, np.array([3, 90]), corrupt)
    assert corrupt.reasons[90] == "the shard is missing"
