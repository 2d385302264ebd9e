"""Cells of files in the order of pack."""

import numpy as np
from fixtures.unpacked_files import cell, make_flat_folder, make_folder, make_rtdc

from fastcell.inference.source_cells import open_cells
from fastcell.packing.pack import pack
from fastcell.sources.registry import ReadOptions
from fastcell.splits.make_splits import SplitOptions


def test_cells_keep_the_order_of_pack(tmp_path):
    src = make_folder(tmp_path / "src")
    cells = open_cells(src, read=ReadOptions(pattern="{group}/{class}/{name}"))
    (chunk,) = cells.chunks(100)
    packed = pack(
        src,
        tmp_path / "out",
        pattern="{group}/{class}/{name}",
        split=SplitOptions(shares=None),
        allow_absent=True,
        jobs=1,
    )
    assert cells.keys(chunk.numbers) == packed.column("key").tolist()
    assert cells.groups(chunk.numbers) == packed.column("group").tolist()
    assert chunk.bad.select(["key", "source", "reason"]).equals(packed.quarantine().select(["key", "source", "reason"]))
    assert sorted([*chunk.numbers.tolist(), *chunk.bad_numbers.tolist()]) == list(range(len(cells)))
    png = [number for number, key in enumerate(cells.keys(chunk.numbers)) if key.endswith("003.png")]
    np.testing.assert_array_equal(chunk.cells[png[0]], cell(3))


def test_pixel_sizes_come_from_the_files_or_from_the_user(tmp_path):
    recording = open_cells(make_rtdc(tmp_path / "rtdc"))
    np.testing.assert_allclose(recording.pitches(np.arange(3)), 0.34)
    flat = make_flat_folder(tmp_path / "flat")
    np.testing.assert_allclose(open_cells(flat, um_per_px=0.5).pitches(np.arange(2)), 0.5)
    assert np.isnan(open_cells(flat).pitches(np.arange(2))).all()


def test_stamps_follow_the_files_and_digests_the_reading(tmp_path):
    flat = make_flat_folder(tmp_path / "flat")
    cells = open_cells(flat)
    stamps = [cells.stamp(number, number + 1) for number in range(len(cells))]
    changed = flat / cells.order[2].key
    changed.write_bytes(changed.read_bytes() + b" ")
    assert [cells.stamp(number, number + 1) != stamps[number] for number in range(len(cells))] == [
        number == 2 for number in range(len(cells))
    ]
    assert open_cells(flat).digest() == cells.digest() != open_cells(flat, um_per_px=1.0).digest()
