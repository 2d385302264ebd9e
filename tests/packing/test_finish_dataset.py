"""What a data set made of shards says of itself, and what cannot become one."""

import math

import cv2
import numpy as np
import pytest

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.errors import ArgumentError, DataError
from fastcell.packing.finish_dataset import finish_dataset, number_cells
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_block_shard, write_cell_shard
from fastcell.storage.staging import staging

CLASSES = ["A", "B"]


def records(num):
    rng = np.random.default_rng(0)
    data = [cv2.imencode(".png", rng.integers(0, 256, (6 + i, 9), dtype=np.uint8))[1].tobytes() for i in range(num)]
    return [Record(f"{CLASSES[i % 2]}/{i}.png", data[i], "png", CLASSES[i % 2]) for i in range(num)]


def test_numbers_count_through_all_shards(tmp_path):
    given = records(10)
    first = write_block_shard(tmp_path / "0.tar", [("train", given[:3]), ("test", given[3:4])])
    second = write_block_shard(tmp_path / "1.tar", [("train", given[4:10])])
    table, blocks = number_cells([first, second])
    assert table.column("cell_id").to_pylist() == list(range(10))
    assert table.column("block").to_pylist() == [0, 0, 0, 1, *[2] * 6]
    assert blocks.column("first_cell").to_pylist() == [0, 3, 4]
    assert blocks.column("num_cells").to_pylist() == [3, 1, 6]


def test_pitch_of_the_data_set_where_all_share_it(tmp_path):
    for name, pitches, expected in (("a", (0.5, 0.5), 0.5), ("b", (0.5, 0.25), None), ("c", (math.nan, 0.5), None)):
        given = [record._replace(um_per_px=pitch) for record, pitch in zip(records(2), pitches, strict=True)]
        with staging(tmp_path / name) as folder:
            result = write_cell_shard(folder / "s.tar", given, None, CLASSES)
            manifest = finish_dataset(folder, tmp_path / name, [result], DatasetInfo("x", CLASSES))
        assert manifest.info.um_per_px == expected


def test_shards_without_a_cell_are_dropped_and_no_cell_is_an_error(tmp_path):
    bad = Record("a.png", b"text", "png")
    with staging(tmp_path / "out") as folder:
        results = [
            write_cell_shard(folder / "0.tar", [bad]),
            write_cell_shard(folder / "1.tar", records(1), None, CLASSES),
        ]
        finish_dataset(folder, tmp_path / "out", results, DatasetInfo("x", CLASSES))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == ["1.tar"]
    with (
        pytest.raises(DataError, match=r"no usable cell: 1 bad cell: not an image \(1\)"),
        staging(tmp_path / "none") as folder,
    ):
        finish_dataset(folder, tmp_path / "none", [write_cell_shard(folder / "0.tar", [bad])], DatasetInfo("x"))
    assert not (tmp_path / "none").exists()


def test_classes_that_the_info_does_not_name(tmp_path):
    with staging(tmp_path / "out") as folder:
        result = write_cell_shard(folder / "0.tar", records(2), None, CLASSES)
        with pytest.raises(ArgumentError, match="classes must be the list of all"):
            finish_dataset(folder, tmp_path / "out", [result], DatasetInfo("x", ["A"]))
