"""RT-DC files: events, features, pixel size and background, against h5py; files that read elsewhere are refused."""

import json
import math

import numpy as np
import pytest

from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError, StrictError
from fastcell.packing import shard_layout, write_shards
from fastcell.packing.pack import pack
from fastcell.sources import containers
from fastcell.sources.registry import ReadOptions
from fastcell.sources.rtdc import Rtdc
from fastcell.splits.make_splits import SplitOptions

h5py = pytest.importorskip("h5py")


def write(path, num, *, side=9, seed=0, chunk=4, **datasets):
    """Images of `num` events, (num, side, side + 3)."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (num, side, side + 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["imaging:pixel size"] = 0.34
        shape = (chunk, side, side + 3)
        file.create_dataset("events/image", data=pixels, maxshape=(None, side, side + 3), chunks=shape)
        file["events/deform"] = rng.random(num + 1).astype(np.float32)  # one more than images
        file["events/frame"] = np.arange(num, dtype=np.int64)
        file["events/short"] = np.zeros(max(num - 1, 0))
        file["events/trace/fl1"] = np.zeros((num, 5))
        for name, values in datasets.items():
            file[f"events/{name}"] = values
    return pixels


def columns(source):
    listing = source.scan()
    assert listing.features is not None
    return {
        key: {name: float(column[i]) for name, column in values.items()}
        for keys, values in listing.features.pieces()
        for i, key in enumerate(keys)
    }


def test_events_and_features(tmp_path):
    one, two = write(tmp_path / "A" / "m1.rtdc", 10), write(tmp_path / "B" / "m2.rtdc", 7, side=5, seed=1)
    write(tmp_path / "B" / "none.rtdc", 0)
    (tmp_path / "B" / "void.rtdc").write_bytes(b"")
    source = Rtdc(tmp_path)
    listing = source.scan()
    assert [item.key for item in listing.items[8:12]] == [
        "A/m1.rtdc/000008",
        "A/m1.rtdc/000009",
        "B/m2.rtdc/000000",
        "B/m2.rtdc/000001",
    ]
    assert {(item.class_name, item.group) for item in listing.items} == {("A", "A/m1.rtdc"), ("B", "B/m2.rtdc")}
    assert {item.um_per_px for item in listing.items} == {0.34}
    assert listing.notes == ["quarantined 2 files without a usable event (B/none.rtdc, B/void.rtdc)."]
    assert [(bad.item.key, bad.reason) for bad in listing.rejected] == [
        ("B/none.rtdc", "no event in the file"),
        ("B/void.rtdc", "empty file"),
    ]
    assert all((source.load(item) == pixels).all() for item, pixels in zip(listing.items[:10], one, strict=True))
    assert all((source.load(item) == pixels).all() for item, pixels in zip(listing.items[10:], two, strict=True))
    assert listing.features is not None
    assert listing.features.names == ["deform", "frame", "short"]
    with h5py.File(tmp_path / "A" / "m1.rtdc", locking=False) as file:
        told = {"deform": float(file["events/deform"][7]), "frame": 7.0, "short": 0.0}
        assert columns(source)["A/m1.rtdc/000007"] == told
    assert math.isnan(columns(source)["A/m1.rtdc/000009"]["short"])  # one value fewer than images


def test_packed_cells_find_their_features(tmp_path):
    pixels = write(tmp_path / "m.rtdc", 30)
    manifest = pack(tmp_path / "m.rtdc", tmp_path / "out")
    features = manifest.features()
    assert features is not None
    assert features.column_names == ["cell_id", "deform", "frame", "short"]
    numbers = [int(key.rpartition("/")[2]) for key in manifest.column("key")]
    assert numbers != sorted(numbers)
    assert features.column("frame").to_pylist() == numbers
    for number, cell in zip(numbers, read_cells(manifest, range(30)), strict=True):
        assert (cell == pixels[number]).all()
    assert manifest.info.um_per_px == pytest.approx(0.34)


def test_background_is_subtracted_on_its_own_level(tmp_path):
    ground = np.full((6, 9, 12), 100, np.uint8)
    ground[:, :, 6:] = 140
    offset = np.array([0, 0, 0, 5, 5, 5], float)
    pixels = write(tmp_path / "m.rtdc", 6, image_bg=ground, bg_off=offset)
    source = Rtdc(tmp_path / "m.rtdc", subtract_background=True)
    below = ground + offset[:, None, None]
    expected = np.clip(np.rint(pixels - below + below.mean(axis=(1, 2), keepdims=True)), 0, 255)
    for item, wanted in zip(source.scan().items, expected, strict=True):
        assert (source.load(item) == wanted).all()
    write(tmp_path / "bare.rtdc", 3)
    with pytest.raises(
        DataError, match=r"must hold the background images events/image_bg.*without --subtract-background"
    ):
        Rtdc(tmp_path / "bare.rtdc", subtract_background=True).scan()


def test_real_files_come_out_as_h5py_reads_them(real_data, tmp_path):
    pytest.importorskip("hdf5plugin")
    manifest = pack(real_data / "rtdc", tmp_path / "out")
    keys = manifest.column("key").tolist()
    assert len(manifest) == 53
    assert sum(key.startswith("dcnum_cytoshot-test-data.rtdc/") for key in keys) == 40
    assert sum(key.startswith("dcnum_dcnum_thresh_example.rtdc/") for key in keys) == 13
    features = manifest.features()
    assert features is not None
    assert len(features.column_names) == 54
    for name in ("dcnum_cytoshot-test-data.rtdc", "dcnum_dcnum_thresh_example.rtdc"):
        with h5py.File(real_data / "rtdc" / name, locking=False) as file:
            images = file["events/image"][:]
            area, volume = file["events/area_um"][:], file["events/volume"][:] if "volume" in file["events"] else None
        rows = [row for row, key in enumerate(keys) if key.startswith(name)]
        for row, cell in zip(rows, read_cells(manifest, rows), strict=True):
            number = int(keys[row].rpartition("/")[2])
            assert (cell == images[number]).all()
            assert features.column("area_um")[row].as_py() == area[number]
            told = features.column("volume")[row].as_py()
            assert told is None if volume is None else told == volume[number]
    assert manifest.column("um_per_px").tolist() == [pytest.approx(0.2645)] * 53
    with pytest.raises(DataError, match="no usable cell: no event in dcnum_shapein_empty_M001.rtdc"):
        pack(real_data / "rtdc" / "dcnum_shapein_empty_M001.rtdc", tmp_path / "none")


def test_hostile_files_are_refused(tmp_path):
    write(tmp_path / "secret.rtdc", 4)
    path = tmp_path / "m.rtdc"

    def refused(match):
        with pytest.raises(DataError, match=match):
            Rtdc(path).scan()

    with h5py.File(path, "w") as file:
        file["events/image"] = h5py.ExternalLink("secret.rtdc", "events/image")
    refused("events/image is a link to 'secret.rtdc', and other files are not read")
    with h5py.File(path, "w") as file:
        file.create_group("events")
        file["basins/x"] = describe_basin(type="file", format="hdf5", paths=["other.rtdc"])
    refused("a basin: pack that file")
    with h5py.File(path, "w") as file:
        file.create_group("other")
    refused("must be an RT-DC file with a group events")
    path.write_bytes((tmp_path / "secret.rtdc").read_bytes()[:900])
    refused("m.rtdc cannot be read .*Copy or make it again")


def test_files_that_cannot_be_used_do_not_end_the_others(tmp_path):
    root = tmp_path / "src"
    pixels = write(root / "good.rtdc", 12)
    (root / "cut.rtdc").write_bytes((root / "good.rtdc").read_bytes()[:900])
    (root / "none.rtdc").write_bytes(b"")
    with h5py.File(root / "other.rtdc", "w") as file:
        file["events/area"] = np.zeros(3)
    manifest = pack(root, tmp_path / "out")
    assert len(manifest) == len(pixels)
    reasons = {row["key"]: row["reason"] for row in manifest.quarantine().to_pylist()}
    assert sorted(reasons) == ["cut.rtdc", "none.rtdc", "other.rtdc"]
    assert reasons["cut.rtdc"].startswith("file that cannot be used: cannot be read (")
    assert reasons["none.rtdc"] == "empty file"
    assert "must hold images in events/image" in reasons["other.rtdc"]
    with pytest.raises(StrictError, match="refuses 3 bad"):
        pack(root, tmp_path / "strict", strict=True)


def test_an_acquisition_that_was_cut_off(tmp_path):
    path = tmp_path / "m.rtdc"
    pixels = np.random.default_rng(0).integers(0, 256, (10, 5, 6)).astype(np.uint8)
    with h5py.File(path, "w") as file:
        images = file.create_dataset("events/image", (10, 5, 6), "u1", chunks=(4, 5, 6))
        images[:8] = pixels[:8]
        deform = file.create_dataset("events/deform", (10,), "f4", chunks=(3,))
        deform[:6] = np.arange(6)
    manifest = pack(path, tmp_path / "out", split=SplitOptions(None))
    numbers = [int(key[-6:]) for key in manifest.column("key")]
    assert sorted(numbers) == list(range(8))
    for number, cell in zip(numbers, read_cells(manifest, range(8)), strict=True):
        assert (cell == pixels[number]).all()
    assert manifest.quarantine().select(["key", "reason"]).to_pylist() == [
        {"key": f"m.rtdc/{number:06d}", "reason": "its chunk was never written"} for number in (8, 9)
    ]
    features = manifest.features()
    assert features is not None
    told = dict(zip(numbers, features.column("deform").to_pylist(), strict=True))
    assert told == {number: float(number) if number < 6 else None for number in range(8)}


def describe_basin(**told):
    return np.array([line.encode() for line in json.dumps(told, indent=2).split("\n")])


def write_basin(path, rows):
    """A file whose backgrounds and whose feature `temp` lie in a basin inside of it; images and unique backgrounds."""
    ground = np.random.default_rng(1).integers(50, 60, (3, 9, 12)).astype(np.uint8)
    pixels = write(path, len(rows))
    with h5py.File(path, "a") as file:
        file.create_dataset("basin_events/image_bg", data=ground, chunks=(1, 9, 12))
        file["basin_events/temp"] = np.array([20.5, 21.5, 22.5])
        file["events/basinmap0"] = np.array(rows, np.uint64)
        file["basins/abc"] = describe_basin(
            type="internal",
            format="h5dataset",
            features=["image_bg", "temp"],
            paths=["basin_events"],
            mapping="basinmap0",
            name="background",
        )
    return pixels, ground


def test_basins_inside_the_file_are_read(tmp_path):
    rows = [0, 0, 1, 2, 2, 1]
    pixels, ground = write_basin(tmp_path / "m.rtdc", rows)
    source = Rtdc(tmp_path / "m.rtdc", subtract_background=True)
    below = ground[rows].astype(float)
    expected = np.clip(np.rint(pixels - below + below.mean(axis=(1, 2), keepdims=True)), 0, 255)
    for item, wanted in zip(source.scan().items, expected, strict=True):
        assert (source.load(item) == wanted).all()
    told = columns(source)
    assert [told[f"m.rtdc/{i:06d}"]["temp"] for i in range(6)] == [20.5 + row for row in rows]
    assert "basinmap0" not in told["m.rtdc/000000"]


def test_images_in_a_basin_inside_the_file(tmp_path):
    rows = [2, 0, 7, 1]  # row 7 is not there
    _, ground = write_basin(tmp_path / "m.rtdc", rows)
    with h5py.File(tmp_path / "m.rtdc", "a") as file:
        del file["events/image"]
        file["basin_events/image"] = ground
        del file["basins/abc"]
        file["basins/abc"] = describe_basin(
            type="internal", format="h5dataset", features=["image"], paths=["basin_events"], mapping="basinmap0"
        )
    listing = Rtdc(tmp_path / "m.rtdc").scan()
    assert [item.key for item in listing.items] == [f"m.rtdc/{i:06d}" for i in (0, 1, 3)]
    assert [bad.item.key for bad in listing.rejected] == ["m.rtdc/000002"]
    for item, row in zip(listing.items, (2, 0, 1), strict=True):
        assert (Rtdc(tmp_path / "m.rtdc").load(item) == ground[row]).all()


def test_a_damaged_chunk_takes_its_cells_alone(tmp_path):
    path = tmp_path / "m.rtdc"
    pixels = np.random.default_rng(0).integers(0, 256, (256, 30, 30)).astype(np.uint8)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("events/image", data=pixels, chunks=(64, 30, 30), compression="gzip")
        place = dataset.id.get_chunk_info(1).byte_offset
    data = bytearray(path.read_bytes())
    data[place + 20 : place + 60] = bytes(40)
    path.write_bytes(data)
    manifest = pack(path, tmp_path / "out")
    assert sorted(manifest.column("key")) == [f"m.rtdc/{i:06d}" for i in (*range(64), *range(128, 256))]
    bad = manifest.quarantine()
    assert sorted(bad.column("key").to_pylist()) == [f"m.rtdc/{i:06d}" for i in range(64, 128)]
    assert all(reason.startswith("damaged: ") for reason in bad.column("reason").to_pylist())
    assert manifest.features() is None


def test_a_damaged_feature_is_unknown_and_told(tmp_path, capsys):
    root = tmp_path / "src"
    for name in ("a", "b", "c"):
        write(root / f"{name}.rtdc", 12)
    with h5py.File(root / "b.rtdc", "a") as file:
        dataset = file.create_dataset("events/area", data=np.arange(12.0), chunks=(12,), fletcher32=True)
        place = dataset.id.get_chunk_info(0).byte_offset
    data = bytearray((root / "b.rtdc").read_bytes())
    data[place + 3] ^= 0xFF
    (root / "b.rtdc").write_bytes(data)
    manifest = pack(root, tmp_path / "out", split=SplitOptions(None))
    assert "note: b.rtdc: values of area are damaged and count as unknown" in capsys.readouterr().err
    assert len(manifest) == 36
    features = manifest.features()
    assert features is not None
    assert features.column("area").null_count == 36
    assert features.column("deform").null_count == 0


def test_pixel_size_that_cannot_be_is_unknown(tmp_path):
    write(tmp_path / "m.rtdc", 2)
    with h5py.File(tmp_path / "m.rtdc", "a") as file:
        file.attrs["imaging:pixel size"] = "much"
    assert all(math.isnan(item.um_per_px) for item in Rtdc(tmp_path / "m.rtdc").scan().items)


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_a_run_that_was_interrupted_ends_with_the_same_bytes(tmp_path, monkeypatch, layout):
    for module in (containers, shard_layout):
        monkeypatch.setattr(module, "WINDOW_BYTES", 4_000)  # some 40 cells: chunk by chunk
    for i in range(4):
        write(tmp_path / "src" / f"m{i}.rtdc", 150, seed=i, chunk=16)
    assert Rtdc(tmp_path / "src").scan().runs is not None
    how = {
        "layout": layout,
        "shard_cells": 100,
        "block_cells": 32 if layout == "block" else None,
        "jobs": 1,
    }
    whole = pack(tmp_path / "src", tmp_path / "whole", **how)
    written, write_anew = [], write_shards._write_anew

    def interrupted(task):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(task.path)
        return write_anew(task)

    with monkeypatch.context() as patch:
        patch.setattr(write_shards, "_write_anew", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pack(tmp_path / "src", tmp_path / "out", **how)
    again = pack(tmp_path / "src", tmp_path / "out", **how)
    names = sorted(path.name for path in whole.path.iterdir() if path.is_file())
    assert "features.parquet" in names
    assert len(whole) == 600
    for name in names:
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    files = [key.partition("/")[0] for key in whole.column("key")]
    assert layout == "block" or len(set(files[:100])) >= 2  # a block is of one side, and that of few files


def test_options_reach_the_reader(tmp_path):
    write(tmp_path / "m.rtdc", 5, image_bg=np.full((5, 9, 12), 50, np.uint8))
    pixels = write(tmp_path / "same.rtdc", 5)
    manifest = pack(tmp_path / "m.rtdc", tmp_path / "out", read=ReadOptions(subtract_background=True))
    numbers = [int(key.rpartition("/")[2]) for key in manifest.column("key")]
    for number, cell in zip(numbers, read_cells(manifest, range(5)), strict=True):
        assert (cell == pixels[number]).all()  # an even background changes nothing
