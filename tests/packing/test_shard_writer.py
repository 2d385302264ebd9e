"""Shards come back as they went in, to fastcell and to others' tools; a data set appears whole or not at all."""

import pickle
import tarfile
import zlib

import cv2
import numpy as np
import pytest
import webdataset

from fastcell.dataset.block_layout import make_block
from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.decode import decode
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_block_shard, write_cell_shard
from fastcell.storage.staging import staging
from fastcell.storage.whole_files import file_crc32

CLASSES = ["A", "B"]


def cell(seed, height=None, width=None):
    rng = np.random.default_rng(seed)
    shape = (height or rng.integers(5, 40), width or rng.integers(5, 60))
    return cv2.GaussianBlur(rng.integers(0, 256, shape).astype(np.uint8), (0, 0), 1.5)


def records(num, extension="png", start=0):
    return [
        Record(
            f"{CLASSES[i % 2]}/{i}.{extension}",
            cv2.imencode(f".{extension}", cell(i))[1].tobytes(),
            extension,
            CLASSES[i % 2],
            f"donor-{i % 3}",
            source=f"/in/{i}",
        )
        for i in range(start, start + num)
    ]


def stored(manifest, row):
    data = (manifest.path / row["shard"]).read_bytes()
    return data[row["offset"] : row["offset"] + row["bytes"]]


def test_a_shard_has_the_crc_of_its_file(tmp_path):
    """Also of one that is larger than the buffer of the file."""
    noise = np.random.default_rng(0).integers(0, 256, (900, 900)).astype(np.uint8)
    large = [Record(f"{number}", noise, "raw", "A") for number in range(3)]
    results = [
        write_cell_shard(tmp_path / "cells.tar", [*records(5), *large], None, CLASSES),
        write_block_shard(tmp_path / "blocks.tar", [("train", large), ("test", records(3))]),
    ]
    for result in results:
        content = (tmp_path / result.name).read_bytes()
        assert (result.bytes, result.crc32) == (len(content), zlib.crc32(content))
        assert file_crc32(tmp_path / result.name) == result.crc32


def test_cell_layout_round_trip(tmp_path):
    batches = [records(7), records(5, "jpg", 7)]
    bad = Record("A/empty.png", b"", "png", "A", source="/in/empty")
    with staging(tmp_path / "out") as folder:
        results = [
            write_cell_shard(folder / "shard-000000.tar", [*batches[0], bad], None, CLASSES),
            write_cell_shard(folder / "shard-000001.tar", batches[1], None, CLASSES),
        ]
        results = pickle.loads(pickle.dumps(results))
        sides = np.array(["train"] * 9 + ["test"] * 3)
        by_key = {record.key: "valid" for record in batches[0]}
        finish_dataset(
            folder, tmp_path / "out", results, DatasetInfo("x", CLASSES), {"default": sides, "other": by_key}
        )
    manifest = Manifest.open(tmp_path / "out")
    everything = batches[0] + batches[1]
    assert len(manifest) == 12
    assert manifest.column("cell_id").tolist() == list(range(12))
    assert manifest.column("key").tolist() == [record.key for record in everything]
    assert manifest.labels.tolist() == [i % 2 for i in range(12)]
    assert manifest.split().tolist() == sides.tolist()
    assert manifest.split("other").tolist() == ["valid"] * 7 + [""] * 5
    assert manifest.info.num_quarantined == 1
    assert [shard["num_cells"] for shard in manifest.info.shards] == [7, 5]
    assert manifest.quarantine().column("reason").to_pylist() == ["empty file"]
    for row, record in zip(manifest.table.to_pylist(), everything, strict=True):
        assert stored(manifest, row) == record.data
        np.testing.assert_array_equal([row["height"], row["width"]], decode(record.data, record.encoding).pixels.shape)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert manifest.info.shards[0]["bytes"] == (manifest.path / "shard-000000.tar").stat().st_size


def test_same_cells_same_bytes(tmp_path):
    for name in "ab":
        write_cell_shard(tmp_path / name, records(5), None, CLASSES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_names_in_the_tar_are_safe_and_unique(tmp_path):
    data = records(1)[0].data
    keys = [
        "a.png",
        "a.jpg",
        "a.b.png",
        "../../etc/x.png",
        "/abs/y.png",
        "d.e/z",
        "G 1/ü?*.png",
        "p/" * 60 + "long.png",
    ]
    keys += ["n" * 200 + ".png", "n" * 200 + "m.png", "...", "a\udcff.png"]
    write_cell_shard(tmp_path / "s.tar", [Record(key, data, "png") for key in keys])
    with tarfile.open(tmp_path / "s.tar") as file:
        names = [member.name for member in file.getmembers()]
        file.extractall(tmp_path / "out", filter="data")
    assert names[:7] == ["a.png", "a-2.png", "a_b.png", "etc/x.png", "abs/y.png", "d.e/z.png", "G_1/ü_.png"]
    assert len(set(names)) == len(keys)
    assert all("." not in name.rpartition("/")[2].removesuffix(".png") for name in names)
    assert len(list(webdataset.WebDataset(str(tmp_path / "s.tar"), shardshuffle=False))) == len(keys)


def test_arrays_are_stored_as_npy(tmp_path):
    deep = (cell(3).astype(np.uint16) * 20)[None]
    given = [Record("a", cell(1), "raw"), Record("b", deep, "raw")]
    result = write_cell_shard(tmp_path / "s.tar", given, (0, 5100))
    data = (tmp_path / "s.tar").read_bytes()
    shallow, windowed = result.rows.to_pylist()
    assert (shallow["encoding"], shallow["depth"], windowed["depth"]) == ("npy", 8, 16)
    for row in (shallow, windowed):
        again = decode(data[row["offset"] : row["offset"] + row["bytes"]], "npy", (0, 5100)).pixels
        np.testing.assert_array_equal(again, cell(1) if row is shallow else cell(3))


def test_cell_shard_needs_the_list_of_classes(tmp_path):
    with pytest.raises(ArgumentError, match="classes must be the list of all class names"):
        write_cell_shard(tmp_path / "s.tar", records(2), None, ["A"])


def test_unlabelled_cells_have_no_label_file(tmp_path):
    write_cell_shard(tmp_path / "s.tar", [records(1)[0]._replace(class_name=None)])
    with tarfile.open(tmp_path / "s.tar") as file:
        assert file.getnames() == ["A/0.png"]


def test_block_layout_round_trip(tmp_path):
    everything = records(11)
    bad = Record("A/bad.png", b"\0" * 9, "png", "A")
    shards = [
        [("train", everything[:4]), ("valid", [*everything[4:6], bad])],
        [("train", [bad]), ("test", everything[6:9]), ("train", everything[9:])],
    ]
    with staging(tmp_path / "out") as folder:
        results = [write_block_shard(folder / f"shard-{i:06d}.tar", blocks) for i, blocks in enumerate(shards)]
        manifest = finish_dataset(folder, tmp_path / "out", results, DatasetInfo("x", CLASSES, layout="block"))
    blocks = manifest.blocks().to_pylist()
    assert [(block["first_cell"], block["num_cells"], block["split"]) for block in blocks] == [
        (0, 4, "train"),
        (4, 2, "valid"),
        (6, 3, "test"),
        (9, 2, "train"),
    ]
    assert manifest.split().tolist() == ["train"] * 4 + ["valid"] * 2 + ["test"] * 3 + ["train"] * 2
    assert manifest.column("block").tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert manifest.info.num_quarantined == 2
    rows = manifest.table.to_pylist()
    for block in blocks:
        first = block["first_cell"]
        numbers = range(first, first + block["num_cells"])
        assert stored(manifest, block) == make_block([cell(number) for number in numbers], first)[0]
        for cell_id in numbers:
            assert stored(manifest, rows[cell_id]) == cell(cell_id).tobytes()
            assert (rows[cell_id]["encoding"], rows[cell_id]["depth"]) == ("raw", 8)
    with tarfile.open(tmp_path / "out" / "shard-000001.tar") as file:
        assert file.getnames() == ["block-00000000.cells", "block-00000001.cells"]


def test_block_layout_applies_the_window(tmp_path):
    deep = cell(3).astype(np.uint16) * 20
    result = write_block_shard(tmp_path / "s.tar", [("", [Record("a", deep, "raw")])], (0, 5100))
    (row,) = result.rows.to_pylist()
    pixels = (tmp_path / "s.tar").read_bytes()[row["offset"] : row["offset"] + row["bytes"]]
    assert pixels == cell(3).tobytes()
    assert row["depth"] == 8
