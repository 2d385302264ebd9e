"""Tars of others packed anew: the same cells, in another layout."""

import io
import json
import tarfile

import cv2
import numpy as np
import pytest

from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError, StrictError
from fastcell.packing.index import index
from fastcell.packing.pack import pack
from fastcell.sources.webdataset import Tars
from fastcell.splits.make_splits import SplitOptions


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def pixels_of(number):
    return np.random.default_rng(number).integers(0, 256, (4 + number % 3, 6)).astype(np.uint8)


def write(path, numbers, names=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i in numbers:
            key = f"cells/{i:04d}" if names is None else names[i % len(names)]
            add(archive, f"{key}.png", cv2.imencode(".png", pixels_of(i))[1].tobytes())
            if i % 2:
                add(archive, f"{key}.cls", str(i % 3).encode())
            else:
                add(
                    archive,
                    f"{key}.json",
                    json.dumps({"label": i % 3, "group": f"d{i % 8}", "um_per_px": 0.5}).encode(),
                )
    return path


def test_a_packed_set_keeps_classes_and_groups(tmp_path):
    for i in range(24):
        path = tmp_path / "images" / f"d{i % 6}" / f"c{9 if i % 3 else 10}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels_of(i))
    first = pack(
        tmp_path / "images", tmp_path / "first", pattern="{group}/{class}/{name}", um_per_px=0.5, allow_absent=True
    )
    names = ["key", "class", "group", "collection", "um_per_px", "height"]
    told = sorted(first.table.select(names).to_pylist(), key=str)
    again = pack(first.path, tmp_path / "again", layout="block", allow_absent=True)
    assert again.info.classes == first.info.classes == ["c9", "c10"]
    assert sorted(again.table.select(names).to_pylist(), key=str) == told
    with pytest.raises(DataError, match="must be of layout cell to be packed again, got layout block"):
        pack(again.path, tmp_path / "third", allow_absent=True)


def test_a_folder_of_tars_as_blocks(tmp_path):
    write(tmp_path / "tars" / "a.tar", range(30))
    write(tmp_path / "tars" / "b.tar", range(30, 50))
    (tmp_path / "tars" / "classes.txt").write_text("no\nyes\nmaybe\n")
    manifest = pack(tmp_path / "tars", tmp_path / "out", layout="block")
    assert manifest.info.classes == ["no", "yes", "maybe"]
    keys = manifest.column("key").tolist()
    assert sorted(keys) == [f"cells/{i:04d}.png" for i in range(50)]
    for row, cell in zip(manifest.table.to_pylist(), read_cells(manifest, range(50)), strict=True):
        number = int(row["key"][6:10])
        assert (cell == pixels_of(number)).all()
        assert row["class"] == ["no", "yes", "maybe"][number % 3]
        assert row["group"] == (None if number % 2 else f"d{number % 8}")
    indexed = index(tmp_path / "tars", out=tmp_path / "index")
    assert sorted(indexed.column("key").tolist()) == sorted(keys)


def test_shards_of_a_data_set_come_back(tmp_path):
    manifest = pack(write(tmp_path / "a.tar", range(40)), tmp_path / "one")
    again = pack(tmp_path / "one", tmp_path / "two", layout="block")
    hashes = {row["pixel_hash"] for row in manifest.table.to_pylist()}
    assert {row["pixel_hash"] for row in again.table.to_pylist()} == hashes
    assert len(hashes) == len(again) == 40


def test_keys_that_come_twice_get_their_tar_in_front(tmp_path):
    write(tmp_path / "tars" / "a.tar", range(4), ["x", "y"])
    write(tmp_path / "tars" / "b.tar", range(2), ["x", "y"])
    keys = [item.key for item in Tars(tmp_path / "tars").scan().items]
    assert keys == ["a.tar/x.png", "a.tar/y.png", "a.tar/x.png#2", "a.tar/y.png#2", "b.tar/x.png", "b.tar/y.png"]


def test_tar_in_tar_and_tars_without_images(tmp_path):
    inner = write(tmp_path / "inner.tar", range(3)).read_bytes()
    with tarfile.open(tmp_path / "outer.tar", "w") as archive:
        add(archive, "x.tar", inner)
    with pytest.raises(DataError, match="no usable cell: no tar holds an image"):
        pack(tmp_path / "outer.tar", tmp_path / "out")
    (tmp_path / "cut.tar").write_bytes(inner[:3000])
    with pytest.raises(DataError, match="cut.tar is truncated"):
        pack(tmp_path / "cut.tar", tmp_path / "out")


def test_tars_that_cannot_be_read_do_not_end_the_others(tmp_path):
    root = tmp_path / "tars"
    write(root / "good.tar", range(12))
    (root / "cut.tar").write_bytes((root / "good.tar").read_bytes()[:1800])
    (root / "no.tar").write_bytes(b"no tar at all" * 100)
    with tarfile.open(root / "none.tar", "w") as archive:
        add(archive, "notes.md", b"x")
    packed = pack(root, tmp_path / "packed", split=SplitOptions(None))
    indexed = index(root, out=tmp_path / "indexed", split=SplitOptions(None))
    for manifest in (packed, indexed):
        assert len(manifest) == 12
        reasons = {row["key"].rpartition("/")[2]: row["reason"] for row in manifest.quarantine().to_pylist()}
        assert sorted(reasons) == ["cut.tar", "no.tar", "none.tar"]
        assert reasons["none.tar"] == "no image in the file"
        assert reasons["no.tar"].startswith("file that cannot be used: is not a tar file")
        assert reasons["cut.tar"].startswith("file that cannot be used: ")
    for how in (pack, index):
        with pytest.raises(StrictError):
            how(root, out=tmp_path / "strict", strict=True, split=SplitOptions(None))
    (root / "good.tar").unlink()
    for how in (pack, index):
        with pytest.raises(DataError, match="cut.tar"):
            how(root, out=tmp_path / "none")
