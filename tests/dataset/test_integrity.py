"""Lost cells are exactly those whose stored bytes changed, whatever happened to the shards, each with its reason."""

import os
import resource
from collections.abc import Callable

import numpy as np
import pytest
from fixtures.written_bytes import overwrite

from fastcell.dataset import integrity
from fastcell.dataset.integrity import (
    CHANGED,
    MISSING,
    REASONS,
    SHORT,
    UNKNOWN,
    UNREADABLE,
    WHOLE,
    IntegrityReport,
    check_stored_bytes,
)
from fastcell.dataset.manifest import Manifest

MakeDataset = Callable[..., Manifest]


def stored(manifest):
    """The bytes where the manifest says each cell is, read apart from the code under test; None: no shard."""
    cells = []
    for row in manifest.table.select(["shard", "offset", "bytes"]).to_pylist():
        path = manifest.path / row["shard"]
        cells.append(path.read_bytes()[row["offset"] :][: row["bytes"]] if path.is_file() else None)
    return cells


def differing(before, after):
    return {i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new}


def at(manifest, cell):
    row = manifest.table.slice(cell, 1).to_pylist()[0]
    return manifest.path / row["shard"], row["offset"], row["bytes"]


def flip(manifest):
    for cell in (0, 41, 99):
        path, offset, size = at(manifest, cell)
        place = offset + size - 1
        overwrite(path, place, bytes([path.read_bytes()[place] ^ 1]))


def zero(manifest):
    path, offset, size = at(manifest, 40)
    overwrite(path, offset, bytes(size))


def overwrite_with_another(manifest):
    source, offset, size = at(manifest, 50)
    path, place, _ = at(manifest, 52)
    overwrite(path, place, source.read_bytes()[offset : offset + size])


def overwrite_many(manifest):
    path, offset, _ = at(manifest, 70)
    overwrite(path, offset - 100, bytes(range(256)) * 20)


def truncate(manifest):
    path, offset, size = at(manifest, 45)
    os.truncate(path, offset + size - 1)


def empty(manifest):
    os.truncate(manifest.path / "shard-000002.tar", 0)


def remove(manifest):
    (manifest.path / "shard-000000.tar").unlink()


def replace(manifest):
    (manifest.path / "shard-000001.tar").write_bytes((manifest.path / "shard-000000.tar").read_bytes())


DAMAGES = {
    flip: {CHANGED},
    zero: {CHANGED},
    overwrite_with_another: {CHANGED},
    overwrite_many: {CHANGED},
    truncate: {SHORT},
    empty: {SHORT},
    remove: {MISSING},
    replace: {CHANGED, SHORT},
}


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_losses_are_the_cells_whose_bytes_differ(make_dataset, layout, damage):
    manifest = make_dataset(100, layout=layout, num_shards=3)
    before = stored(manifest)
    assert (check_stored_bytes(manifest) == WHOLE).all()
    damage(manifest)
    expected = differing(before, stored(manifest))
    assert expected
    for jobs in (1, 3):
        codes = check_stored_bytes(manifest, jobs=jobs)
        assert set(np.flatnonzero(codes).tolist()) == expected
        assert set(codes[codes != WHOLE].tolist()) <= DAMAGES[damage]
    losses = IntegrityReport(manifest, np.arange(100), codes)
    assert {loss.cell_id for loss in losses} == expected
    assert {loss.reason for loss in losses} <= {REASONS[code] for code in DAMAGES[damage]}


@pytest.mark.parametrize("seed", range(8))
def test_random_damage_is_found_exactly(make_dataset, monkeypatch, seed):
    monkeypatch.setattr(integrity, "_READ_BYTES", 3_000)  # many reads, of some cells or of one
    monkeypatch.setattr(integrity, "_PART_CELLS", 7)
    rng = np.random.default_rng(seed)
    manifest = make_dataset(90, layout=("cell", "block")[seed % 2], encoding="npy", num_shards=4)
    before = stored(manifest)
    for _ in range(6):
        path = manifest.path / f"shard-{rng.integers(4):06d}.tar"
        size = path.stat().st_size
        if rng.random() < 0.2:
            os.truncate(path, int(rng.integers(size + 1)))
        elif size:
            overwrite(path, int(rng.integers(size)), rng.bytes(int(rng.integers(1, 2_000))))
    expected = differing(before, stored(manifest))
    assert set(np.flatnonzero(check_stored_bytes(manifest, jobs=2)).tolist()) == expected


def test_rows_in_any_order_and_twice(make_dataset):
    manifest = make_dataset(60)
    flip_cell = at(manifest, 33)
    overwrite(flip_cell[0], flip_cell[1], b"X")
    rows = np.array([59, 33, 0, 33, 12])
    assert check_stored_bytes(manifest, rows).tolist() == [WHOLE, CHANGED, WHOLE, CHANGED, WHOLE]
    assert check_stored_bytes(manifest, []).tolist() == []
    assert [loss.cell_id for loss in IntegrityReport(manifest, rows, check_stored_bytes(manifest, rows))] == [33, 33]
    with pytest.raises(IndexError):
        check_stored_bytes(manifest, [60])


def test_report_hears_of_every_cell_once_by_shard(make_dataset):
    manifest = make_dataset(50, num_shards=4)
    heard = []
    total = []
    check_stored_bytes(manifest, report=lambda rows, num: (heard.append(rows), total.append(num)))
    assert sorted(np.concatenate(heard).tolist()) == list(range(50))
    assert all(len(set(manifest.shard_index[rows].tolist())) == 1 for rows in heard)
    assert sum(total) == manifest.column("bytes").sum()


def test_what_is_no_readable_file_is_no_crash(make_dataset):
    manifest = make_dataset(60, num_shards=3)
    (manifest.path / "shard-000000.tar").unlink()
    (manifest.path / "shard-000000.tar").mkdir()
    (manifest.path / "shard-000001.tar").unlink()
    os.mkfifo(manifest.path / "shard-000001.tar")
    codes = check_stored_bytes(manifest)
    assert codes.tolist() == [UNREADABLE] * 40 + [WHOLE] * 20


def test_bad_sector_takes_the_cells_on_it_alone(make_dataset, monkeypatch):
    manifest = make_dataset(60, num_shards=1)
    _, bad, _ = at(manifest, 30)
    pread = os.pread

    def read(handle, size, offset):
        if offset <= bad < offset + size:
            raise OSError(5, "Input/output error")
        return pread(handle, size, offset)

    monkeypatch.setattr(integrity.os, "pread", read)
    assert np.flatnonzero(check_stored_bytes(manifest) == UNREADABLE).tolist() == [30]
    assert np.flatnonzero(check_stored_bytes(manifest)).tolist() == [30]


def test_manifest_that_says_nothing_usable(make_dataset):
    manifest = make_dataset(9, num_shards=1)
    rows = manifest.table.to_pylist()
    rows[2]["byte_hash"], rows[4]["offset"], rows[6]["bytes"], rows[8]["shard"] = None, -512, None, None
    table = manifest.table.from_pylist(rows, schema=manifest.table.schema)
    codes = check_stored_bytes(Manifest(manifest.path, manifest.info, table))
    assert codes.tolist() == [WHOLE, WHOLE, UNKNOWN] + [WHOLE, UNKNOWN] * 3


def test_shard_that_shrinks_meanwhile(make_dataset, monkeypatch):
    monkeypatch.setattr(integrity, "_READ_BYTES", 2_000)
    manifest = make_dataset(60, num_shards=1)
    path, end, _ = at(manifest, 20)
    pread, calls = os.pread, []

    def read(handle, size, offset):
        calls.append(offset)
        if len(calls) == 2:
            os.truncate(path, end)
        return pread(handle, size, offset)

    monkeypatch.setattr(integrity.os, "pread", read)
    assert check_stored_bytes(manifest).tolist() == [WHOLE] * 20 + [SHORT] * 40


def test_more_shards_than_files_may_be_open(make_dataset):
    manifest = make_dataset(400, num_shards=400)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 16, hard))
    try:
        codes = check_stored_bytes(manifest, jobs=4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (codes == WHOLE).all()


def test_interrupt_ends_the_threads(make_dataset, monkeypatch):
    monkeypatch.setattr(integrity, "_PART_CELLS", 1)
    manifest = make_dataset(100)
    read = []
    check = integrity._check_read
    monkeypatch.setattr(integrity, "_check_read", lambda *args: (read.append(1), check(*args))[1])

    def interrupt(rows, num):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_stored_bytes(manifest, report=interrupt)
    num = len(read)
    assert (check_stored_bytes(manifest) == WHOLE).all()
    assert len(read) == num + 100


def test_words_tell_shards_classes_and_first_keys(make_dataset):
    manifest = make_dataset(30, num_shards=3)
    (manifest.path / "shard-000002.tar").unlink()
    path, offset, _ = at(manifest, 1)
    overwrite(path, offset, b"X")
    losses = IntegrityReport(manifest, np.arange(30), check_stored_bytes(manifest))
    assert [line.split() for line in losses.describe(3)] == [
        ["shard", "lost", "of", "reason"],
        ["shard-000000.tar", "1", "10", *REASONS[CHANGED].split()],
        ["shard-000002.tar", "10", "10", *REASONS[MISSING].split()],
        [],
        ["class", "lost", "of", "share"],
        ["A", "3", "10", "30.00", "%"],
        ["B", "4", "10", "40.00", "%"],
        ["C", "4", "10", "40.00", "%"],
        [],
        ["lost:", "cell-00001.png,", "cell-00020.png,", "cell-00021.png", "and", "8", "more"],
    ]
    assert losses.table().column("cell_id").to_pylist() == [1, *range(20, 30)]
    assert IntegrityReport(manifest, np.arange(5, 15), np.zeros(10, np.uint8)).describe() == []
