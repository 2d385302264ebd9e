"""Index files say where the bytes are, DALI reads what they say, and what would end DALI's process is refused first."""

import cv2
import numpy as np
import pyarrow as pa
import pytest

from fastcell.data.decode import decode
from fastcell.data.index_files import check_shard, write_index_files
from fastcell.data.manifest import DatasetInfo, Manifest
from fastcell.data.records import Record
from fastcell.data.shards import finish_dataset, read_block, staging, write_block_shard, write_cell_shard
from fastcell.errors import ArgumentError, DataError


def records(first, num):
    rng = np.random.default_rng(first)
    shapes = rng.integers(8, 60, (num, 2))
    images = [cv2.GaussianBlur(rng.integers(0, 256, shape).astype(np.uint8), (0, 0), 2) for shape in shapes]
    return [
        Record(f"{first + i}", cv2.imencode(".png", image)[1].tobytes(), "png", "A") for i, image in enumerate(images)
    ]


@pytest.fixture
def packed(tmp_path):
    with staging(tmp_path / "cells") as folder:
        results = [write_cell_shard(folder / f"{i}.tar", records(10 * i, 10), None, ["A"]) for i in range(2)]
        return finish_dataset(folder, tmp_path / "cells", results, DatasetInfo("x", ["A"]))


def lines(file):
    head, *rest = file.index_path.read_text().splitlines()
    assert head == f"v1.2 {len(rest)}"
    assert file.num == len(rest)
    return [line.split(" ") for line in rest]


def test_one_line_per_row_in_the_order_asked(packed, tmp_path):
    rows = np.array([13, 12, 12, 3, 0])
    files = write_index_files(packed, rows, tmp_path / "index")
    assert [file.shard_path.name for file in files] == ["1.tar", "0.tar"]
    found = [int(line[3]) for file in files for line in lines(file)]
    assert found == rows.tolist()
    for file in files:
        data = file.shard_path.read_bytes()
        for extension, offset, size, name in lines(file):
            assert extension == "img"
            assert len(name) == 12
            expected = records(10 * (int(name) // 10), 10)[int(name) % 10].data
            assert data[int(offset) : int(offset) + int(size)] == expected


def test_no_rows_no_files_and_old_ones_are_replaced(packed, tmp_path):
    assert write_index_files(packed, np.array([], np.int64), tmp_path / "index") == []
    write_index_files(packed, np.array([0, 1]), tmp_path / "index")
    (file,) = write_index_files(packed, np.array([2]), tmp_path / "index")
    assert [line[3] for line in lines(file)] == ["000000000002"]
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["000000-0.idx"]


def test_block_layout_names_blocks(tmp_path):
    with staging(tmp_path / "blocks") as folder:
        results = [
            write_block_shard(folder / f"{i}.tar", [("train", records(10 * i, 4)), ("test", records(10 * i + 4, 3))])
            for i in range(2)
        ]
        manifest = finish_dataset(folder, tmp_path / "blocks", results, DatasetInfo("x", ["A"], layout="block"))
    files = write_index_files(manifest, np.array([1, 0, 3]), tmp_path / "index")
    assert [(file.shard_path.name, file.num) for file in files] == [("0.tar", 2), ("1.tar", 1)]
    first_cells = []
    for file in files:
        data = np.fromfile(file.shard_path, np.uint8)
        for _, offset, size, _ in lines(file):
            first_cells.append(int(read_block(data[int(offset) :][: int(size)]).cell_ids[0]))
    assert first_cells == [4, 0, 11]


def test_dali_reads_the_pixels(packed, tmp_path):
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    rows = np.array([0, 7, 7, 3, 19, 12])
    files = write_index_files(packed, rows, tmp_path / "index")
    pipeline = Pipeline(batch_size=len(rows), num_threads=1, device_id=None)
    with pipeline:
        image = fn.readers.webdataset(
            paths=[str(file.shard_path) for file in files],
            index_paths=[str(file.index_path) for file in files],
            ext=["img"],
            missing_component_behavior="error",
            dont_use_mmap=True,
        )
        name = fn.get_property(image, key="source_info")
        pipeline.set_outputs(fn.decoders.image(image, device="cpu", output_type=types.GRAY), name)
    pipeline.build()
    images, names = pipeline.run()
    for i, row in enumerate(rows):
        record = records(10 * (row // 10), 10)[row % 10]
        assert bytes(np.asarray(names[i]))[-12:] == b"%012d" % row
        np.testing.assert_array_equal(np.asarray(images[i])[:, :, 0], decode(record.data, "png").pixels)


def test_shards_that_are_gone_or_changed(packed, tmp_path):
    path = packed.path / "1.tar"
    data = path.read_bytes()
    path.write_bytes(data[:-512])
    with pytest.raises(DataError, match=f"shard '1.tar': it has {len(data) - 512:,} bytes, and had {len(data):,} when"):
        write_index_files(packed, np.array([15]), tmp_path / "index")
    path.unlink()
    with pytest.raises(DataError, match=r"shard '1.tar': the shard is missing"):
        write_index_files(packed, np.array([15]), tmp_path / "index")
    assert write_index_files(packed, np.array([5]), tmp_path / "index")[0].num == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [("bytes", 10**9), ("bytes", 0), ("bytes", 7), ("offset", 513), ("offset", 0), ("offset", -512)],
)
def test_a_manifest_that_does_not_fit_the_tar(packed, tmp_path, column, value):
    values = packed.column(column).copy()
    values[4] = value
    place = packed.table.schema.get_field_index(column)
    changed = Manifest(packed.path, packed.info, packed.table.set_column(place, column, pa.array(values)))
    with pytest.raises(DataError, match=r"shard '0.tar': no record of .* begins at byte"):
        write_index_files(changed, np.arange(10), tmp_path / "index")


def test_another_tar_of_the_same_size_is_noticed(packed, tmp_path):
    path = packed.path / "0.tar"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DataError, match="no record of"):
        write_index_files(packed, np.array([2]), tmp_path / "index")


def test_rows_that_cannot_be(packed, tmp_path):
    with pytest.raises(ArgumentError, match="rows must be from 0 to 19"):
        write_index_files(packed, np.array([20]), tmp_path / "index")
    with pytest.raises(ArgumentError, match="rows must be sorted by shard"):
        write_index_files(packed, np.array([0, 15, 1]), tmp_path / "index")


def test_a_size_that_would_overflow(packed):
    with pytest.raises(DataError, match="no record of"):
        check_shard(packed.path / "0.tar", np.array([512]), np.array([2**63 - 100]))


def test_a_million_rows(packed, tmp_path):
    rows = np.sort(np.random.default_rng(0).integers(0, 20, 1_000_000))
    files = write_index_files(packed, rows, tmp_path / "index")
    assert sum(file.num for file in files) == 1_000_000
