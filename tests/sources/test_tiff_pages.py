"""Pages of TIFF files that do not tell whether they are cells or channels."""

import numpy as np
import pytest
import tifffile

from fastcell.errors import ArgumentError, DataError
from fastcell.packing.pack import pack
from fastcell.sources.registry import ReadOptions, open_source
from fastcell.sources.tiff_stacks import TiffStacks
from fastcell.splits.make_splits import SplitOptions

CELLS = np.random.default_rng(0).integers(0, 4096, (6, 4, 11, 13)).astype(np.uint16)


def write(root, num_pages=4, files=6, **how):
    for i in range(files):
        path = root / "ABC"[i % 3] / f"cell{i}.TIF"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, CELLS[i, :num_pages], photometric="minisblack", **how)
    return root


def plain(root):
    return write(root, metadata=None)


def shaped(root):
    return write(root)


def slices(root):
    return write(root, imagej=True, metadata={"axes": "ZYX"})


@pytest.mark.parametrize("make", [plain, shaped, slices])
def test_one_file_per_cell(tmp_path, make):
    root = make(tmp_path / "src")
    with pytest.raises(ArgumentError, match=r"--channel .*6 files of 4 pages, the first .*give --pages cells instead"):
        open_source(root).scan()
    manifest = pack(root, tmp_path / "out", read=ReadOptions(channel=1), window=(0, 4095), split=SplitOptions(None))
    assert sorted(manifest.column("key")) == [f"{'ABC'[i % 3]}/cell{i}.TIF/000000" for i in (0, 3, 1, 4, 2, 5)]
    assert manifest.info.classes == ["A", "B", "C"]
    source = open_source(root, options=ReadOptions(channel=1))
    for item in source.scan().items:
        with tifffile.TiffFile(str(item.place[0])) as file:
            assert np.array_equal(source.load(item), file.pages[1].asarray())
    cells = open_source(root, options=ReadOptions(pages="cells")).scan()
    assert len(cells.items) == 24
    again = open_source(root, options=ReadOptions(pages="channels", channel=3)).scan()
    assert len(again.items) == 6


def test_channels_that_are_told_need_no_recognition(tmp_path):
    write(tmp_path, metadata={"axes": "CYX"})
    with pytest.raises(ArgumentError, match="--channel must be the channel to read, 0 to 3"):
        open_source(tmp_path).scan()
    assert len(open_source(tmp_path, options=ReadOptions(channel=2)).scan().items) == 6
    with pytest.raises(
        ArgumentError, match="--pages must be given for TIFF files whose pages may be cells or channels"
    ):
        open_source(tmp_path, options=ReadOptions(channel=2, pages="channels")).scan()


def test_a_file_of_another_number_of_pages_is_quarantined(tmp_path):
    plain(tmp_path)
    tifffile.imwrite(tmp_path / "A" / "odd.tif", CELLS[0, :3], photometric="minisblack", metadata=None)
    listing = open_source(tmp_path, options=ReadOptions(channel=1)).scan()
    assert len(listing.items) == 6
    assert [(bad.item.key, bad.reason) for bad in listing.rejected] == [
        ("A/odd.tif", "tif of 3 pages, where 4 pages are the channels of a cell")
    ]


def test_stacks_of_cells_are_not_taken_for_channels(tmp_path):
    many = np.zeros((20, 11, 13), np.uint8)
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", many, photometric="minisblack")
    assert len(TiffStacks(tmp_path).scan().items) == 40
    with pytest.raises(
        ArgumentError, match=r"whose 20 pages are not declared as channels'\. If .* add --pages channels"
    ):
        TiffStacks(tmp_path, channel=0).scan()
    one = tmp_path / "one" / "c.tif"
    one.parent.mkdir()
    tifffile.imwrite(one, many[:4], photometric="minisblack", metadata=None)
    assert len(TiffStacks(one).scan().items) == 4
    with pytest.raises(ArgumentError, match="add --pages channels"):
        TiffStacks(one, channel=1).scan()
    assert len(TiffStacks(one, channel=1, pages="channels").scan().items) == 1
    with pytest.raises(ArgumentError, match="--channel must be the channel to read, 0 to 3, got None"):
        TiffStacks(one, pages="channels").scan()
    with pytest.raises((ArgumentError, DataError), match="without a channel 7"):
        TiffStacks(one, channel=7, pages="channels").scan()


def test_files_with_different_numbers_of_pages_are_stacks(tmp_path):
    for i, num in enumerate((1, 1, 1, 3, 4)):
        tifffile.imwrite(tmp_path / f"{i}.tif", CELLS[i, :num], photometric="minisblack", metadata=None)
    assert len(TiffStacks(tmp_path).scan().items) == 10
