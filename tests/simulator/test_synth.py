"""`fastcell synth`: the same bytes from any number of workers, truth beside the manifest, whole or not at all."""

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError
from fastcell.simulator import cell_classes, simulate, synth
from fastcell.simulator.parameter_columns import F
from fastcell.simulator.synth import make_default_dataset, synthesize


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "set"
    synthesize(out, 600, 3, defects=0.2, shard_cells=150, jobs=1)
    return out


def test_any_number_of_workers_gives_the_same_bytes(small, tmp_path):
    synthesize(tmp_path / "set", 600, 3, defects=0.2, shard_cells=150, jobs=2)
    assert contents(tmp_path / "set") == contents(small)


def test_another_seed_gives_other_cells(small, tmp_path):
    other = synthesize(tmp_path / "set", 600, 4, defects=0.2, shard_cells=150, jobs=1)
    here = set(Manifest.open(small).table.column("pixel_hash").to_pylist())
    assert not here & set(other.table.column("pixel_hash").to_pylist())


def test_manifest_says_synthetic_and_by_what(small):
    info = Manifest.open(small).info
    assert info.synthetic
    assert info.generator == "synthetic-atom 1"
    assert info.seed == 3
    assert "ynthetic" in info.name
    assert info.classes == ["MB231", "MCF7", "PBMC", "THP1"]
    assert info.um_per_px is None
    assert [shard["num_cells"] for shard in info.shards] == [150] * 4
    assert info.num_quarantined == 0


def test_truth_is_that_of_each_cell(small):
    manifest = Manifest.open(small)
    truth = pq.read_table(small / "truth.parquet")
    np.testing.assert_array_equal(truth.column("cell_id").to_numpy(), np.arange(600))
    assert truth.column("key").to_pylist() == manifest.table.column("key").to_pylist()
    assert sorted(truth.column("index").to_pylist()) == list(range(600))
    np.testing.assert_array_equal(truth.column("height").to_numpy(), manifest.column("height"))
    np.testing.assert_array_equal(truth.column("width").to_numpy(), manifest.column("width"))
    rows = simulate.draw_parameters(truth.column("index").to_numpy(), 3, 0.2)
    np.testing.assert_allclose(truth.column("diameter_um").to_numpy(), rows[:, F.diameter_um], rtol=1e-6)
    np.testing.assert_array_equal(manifest.labels, rows[:, F.class_index])
    assert truth.column("defect").to_pylist() == [cell_classes.DEFECTS[int(kind)] for kind in rows[:, F.defect]]
    defects = np.array(truth.column("defect").to_pylist())
    assert np.mean(defects != "none") == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / 600))


def test_stored_cells_are_the_simulated_ones(small):
    manifest = Manifest.open(small)
    truth = pq.read_table(small / "truth.parquet")
    for cell_id in (0, 299, 599):
        row = manifest.table.slice(cell_id, 1).to_pylist()[0]
        with open(small / row["shard"], "rb") as file:
            file.seek(row["offset"])
            data = file.read(row["bytes"])
        (cell,) = simulate.make_cells([truth.column("index")[cell_id].as_py()], 3, 0.2)
        assert data == cell.encode()
        assert (row["key"], row["class"], row["group"], row["collection"]) == (
            cell.key, cell.class_name, cell.group, cell.collection,
        )  # fmt: skip
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert stored is not None
        assert abs(stored.astype(float) - cell.pixels).mean() < 3


def test_order_is_mixed(small):
    labels = Manifest.open(small).labels
    for part in np.array_split(labels, 6):
        assert {0, 1, 3} <= set(part.tolist())
        assert max(np.bincount(part)) < 65


def test_split_is_by_recording_at_the_asked_shares(tmp_path):
    manifest = synthesize(tmp_path / "set", 3000, 0, jobs=1)
    sides, groups = manifest.split(), np.array(manifest.table.column("group").to_pylist())
    collections = np.array(manifest.table.column("collection").to_pylist())
    for group in np.unique(groups):
        assert len(set(sides[groups == group])) == 1
    for name, share in (("train", 0.65), ("valid", 0.15), ("test", 0.2)):
        assert np.mean(sides == name) == pytest.approx(share, abs=0.01)
        for label in range(4):
            assert np.mean(sides[manifest.labels == label] == name) == pytest.approx(share, abs=0.04)
        for inside in (collections == "collection-1", collections == "collection-2"):
            assert np.mean(sides[inside] == name) == pytest.approx(share, abs=0.03)


def test_block_layout_holds_the_same_cells(small, tmp_path):
    blocks = synthesize(tmp_path / "set", 600, 3, defects=0.2, layout="block", block_cells=64, shard_cells=200, jobs=1)
    cells = Manifest.open(small)
    for column in ("pixel_hash", "class", "group", "height"):
        there = dict(zip(blocks.table.column("key").to_pylist(), blocks.table.column(column).to_pylist(), strict=True))
        here = dict(zip(cells.table.column("key").to_pylist(), cells.table.column(column).to_pylist(), strict=True))
        assert there == here, column
    truth = pq.read_table(tmp_path / "set" / "truth.parquet")
    assert truth.column("key").to_pylist() == blocks.table.column("key").to_pylist()
    sides = dict(zip(blocks.table.column("key").to_pylist(), blocks.split().tolist(), strict=True))
    assert sides == dict(zip(cells.table.column("key").to_pylist(), cells.split().tolist(), strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_cells": 0}, "--cells must be a number >= 1 and <= 2,147,483,647, got 0"),
        ({"num_cells": 2**31}, "--cells must be a number >= 1 and <= 2,147,483,647, got 2147483648"),
        ({"seed": -1}, "seed must be"),
        ({"defects": 2.0}, "defects must be a share from 0 to 1, got 2.0"),
        ({"layout": "tar"}, "--layout must be one of cell, block"),
        ({"jobs": 0}, "--jobs must be"),
        ({"shard_cells": 0}, "--shard-cells must be"),
        ({"block_cells": 0}, "--block-cells must be"),
    ],
)
def test_bad_arguments_leave_nothing_behind(tmp_path, changes, message):
    arguments = {"num_cells": 10, "seed": 0, **changes}
    with pytest.raises(ArgumentError, match=message):
        synthesize(tmp_path / "set", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_default_set_is_made_once(tmp_cache, monkeypatch):
    monkeypatch.setattr(synth, "DEFAULT_CELLS", 120)
    made = []

    def short(folder, verbose=False):
        made.append(folder)
        return synthesize(folder, 120, jobs=1, verbose=verbose)

    monkeypatch.setattr(synth, "synthesize", short)
    first = make_default_dataset()
    before = (first / "manifest.parquet").stat().st_mtime_ns
    assert make_default_dataset() == first
    assert made == [first]
    assert (first / "manifest.parquet").stat().st_mtime_ns == before
    assert first.parent == tmp_cache
    assert first.name.startswith("synthetic-atom-1-")
    assert Manifest.open(first).info.num_cells == 120


def test_default_set_made_by_another_process_meanwhile_is_taken(tmp_path, monkeypatch):
    def late(folder, verbose=False):
        synthesize(folder, 20, jobs=1)
        raise ArgumentError("OUT must be a new or empty folder")

    monkeypatch.setattr(synth, "synthesize", late)
    assert (make_default_dataset(tmp_path) / "dataset.json").exists()


def test_default_set_failing_says_so(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synth, "write_shards", fail)
    monkeypatch.setattr(synth, "DEFAULT_CELLS", 20)
    with pytest.raises(DataError, match=r"cells-seed-0.* cannot be written: No space left .*name another place"):
        make_default_dataset(tmp_path)


def test_the_user_names_the_set(tmp_path):
    assert synthesize(tmp_path / "set", 8, seed=0, jobs=1, name="mine").info.name == "mine"
