"""The loop that writes shards: tasks in their order, and what an earlier run has finished is not written again."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pytest

from fastcell.packing.records import Record
from fastcell.packing.write_shards import write_shards
from fastcell.storage.staging import open_staging


@dataclass(frozen=True)
class Numbers:
    """Cell i is a grey image of 3 x 5 pixels of level i; level 13 is no image."""

    version: str = "1"

    def stamp(self, blocks):
        return self.version

    def records(self, items):
        for i in items:
            yield Record(f"{i}", b"" if i == 13 else np.full((3, 5), i, np.uint8), "raw", "AB"[i % 2], um_per_px=0.5)


SHARDS = [[("train", [5, 1, 2]), ("test", [9])], [("train", [3, 13, 8])]]


def write(stage, layout, jobs=1, version="1"):
    return write_shards(
        stage, SHARDS, Numbers(version), layout, ["A", "B"], jobs=jobs, one_process_cells=100, verbose=False
    )


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_shards_hold_their_cells_in_order(tmp_path, layout):
    with open_staging(tmp_path / "out") as stage:
        stage.begin({})
        first, second = write(stage, layout)
        assert [first.name, second.name] == ["shard-000000.tar", "shard-000001.tar"]
        assert first.rows.column("key").to_pylist() == ["5", "1", "2", "9"]
        assert second.rows.column("key").to_pylist() == ["3", "8"]
        assert second.quarantine.column("reason").to_pylist() == ["empty file"]
        assert first.rows.column("mean_intensity").to_pylist() == [5.0, 1.0, 2.0, 9.0]
        assert (stage.data_dir / first.name).stat().st_size == first.bytes
        if first.blocks is not None:
            assert first.blocks.column("split").to_pylist() == ["train", "test"]
        assert (first.blocks is None) == (layout == "cell")


def test_finished_shards_are_taken_over_where_their_source_is_the_same(tmp_path):
    with open_staging(tmp_path / "out") as stage:
        stage.begin({})
        before = write(stage, "cell")
        paths = [stage.data_dir / result.name for result in before]
        times = [path.stat().st_mtime_ns for path in paths]
        again = write(stage, "cell")
        assert [path.stat().st_mtime_ns for path in paths] == times
        assert [result.rows for result in again] == [result.rows for result in before]
        assert [result.quarantine for result in again] == [result.quarantine for result in before]
        paths[0].write_bytes(b"cut")
        content = paths[1].read_bytes()
        for place in (3, 700, 520, len(content) - 2000):  # header, label, pixels, padding: same size, another content
            hurt = bytearray(content)
            hurt[place] ^= 8
            paths[1].write_bytes(hurt)
            assert write(stage, "cell")[1].crc32 == zlib.crc32(content)
            assert paths[1].read_bytes() == content
        write(stage, "cell")
        assert paths[0].stat().st_size == before[0].bytes
        write(stage, "cell", version="2")
        assert [path.stat().st_mtime_ns for path in paths] != times
        assert paths[1].read_bytes() == content
