"""TIFF stacks and montages, against tifffile."""

import struct

import cv2
import numpy as np
import pytest
import tifffile

from fastcell.dataset.open_files import look_again
from fastcell.dataset.single_cells import read_cells
from fastcell.dataset.tiff.contents import read_single
from fastcell.errors import ArgumentError, DataError
from fastcell.packing.pack import pack
from fastcell.sources.registry import ReadOptions, open_source
from fastcell.sources.tiff_stacks import TiffStacks, has_many_pages

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 13, 17)).astype(np.uint8)
DEEP = PIXELS.astype(np.uint16) * 211


def levels(source, item):
    return source.load(item)


@pytest.mark.parametrize(
    ("pixels", "how"),
    [
        (PIXELS, {}),
        (DEEP, {"byteorder": ">"}),
        (PIXELS, {"compression": "zlib"}),
        (DEEP, {"compression": "zlib", "predictor": True}),
        (DEEP, {"bigtiff": True, "compression": "zlib", "byteorder": ">"}),
        (PIXELS, {"rowsperstrip": 4}),
        (PIXELS, {"rowsperstrip": 4, "compression": "zlib"}),
        (DEEP, {"tile": (16, 16), "bigtiff": True}),
        (PIXELS, {"photometric": "miniswhite"}),
    ],
)
def test_pages_are_cells(tmp_path, pixels, how):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, **how)
    source = open_source(path)
    assert isinstance(source, TiffStacks)
    items = source.scan().items
    assert [item.key for item in items] == [f"a.tif/{i:06d}" for i in range(20)]
    expected = 255 - pixels if "photometric" in how else pixels
    for item, wanted in zip(items, expected, strict=True):
        assert (levels(source, item) == wanted).all()


def test_compressed_pages_are_stored_decoded(tmp_path):
    smooth = np.stack([cv2.blur(page, (5, 5)) for page in PIXELS])
    tifffile.imwrite(tmp_path / "a.tif", smooth, compression="zlib")
    manifest = pack(tmp_path / "a.tif", tmp_path / "out")
    assert set(manifest.column("encoding").tolist()) == {"npy"}
    for key, cell in zip(manifest.column("key"), read_cells(manifest, range(20)), strict=True):
        assert (cell == smooth[int(key.rpartition("/")[2])]).all()


def test_pages_of_different_sizes_and_smaller_copies(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for i in range(6):
            file.write(PIXELS[i, : 5 + i], contiguous=False)
        file.write(PIXELS[6, :4, :4], contiguous=False, subfiletype=1)
    source = TiffStacks(tmp_path / "a.tif")
    assert [levels(source, item).shape for item in source.scan().items] == [(5 + i, 17) for i in range(6)]


def test_ome_tells_pixel_size_and_channels(tmp_path):
    path = tmp_path / "a.ome.tif"
    stack = PIXELS.reshape(10, 2, 13, 17)
    told = {"axes": "TCYX", "PhysicalSizeX": 325.0, "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(path, stack, ome=True, metadata=told)
    with pytest.raises(ArgumentError, match=r"--channel must be the channel to read, 0 to 1, got None"):
        TiffStacks(path).scan()
    source = TiffStacks(path, channel=1)
    listing = source.scan()
    assert all((levels(source, item) == stack[i, 1]).all() for i, item in enumerate(listing.items))
    assert [item.um_per_px for item in listing.items] == [pytest.approx(0.325)] * 10


def test_imagej_stack_behind_one_directory(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DEEP, imagej=True, resolution=(4, 4), metadata={"unit": "um", "axes": "TYX"})
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        end = page.offset + 2 + 12 * len(page.tags)
        order = file.byteorder
    assert struct.unpack_from(order + "I", data, end)[0] > 0
    struct.pack_into(order + "I", data, end, 0)  # as ImageJ writes it for more than 4 GB
    path.write_bytes(data)
    source = TiffStacks(path)
    items = source.scan().items
    assert all((levels(source, item) == wanted).all() for item, wanted in zip(items, DEEP, strict=True))
    assert {item.um_per_px for item in items} == {0.25}
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="a.tif cannot be read"):
        TiffStacks(path).scan()


def montage(path, pixels, rows, columns):
    num, height, width = pixels.shape
    tiles = np.zeros((rows * columns, height, width), pixels.dtype)
    tiles[:num] = pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    page = tiles.reshape(rows, columns, height, width).transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    tifffile.imwrite(path, page, compression="zlib")


def test_tiles_of_montages_without_padding(tmp_path):
    montage(tmp_path / "src" / "G1" / "m.tif", DEEP, 5, 5)
    montage(tmp_path / "src" / "S" / "m.tif", DEEP[:7], 2, 4)
    manifest = pack(
        tmp_path / "src",
        tmp_path / "out",
        read=ReadOptions(tile=(13, 17)),
        window=(0.0, 65535.0),
        layout="block",
        allow_absent=True,
    )
    assert manifest.info.classes == ["G1", "S"]
    keys = manifest.column("key").tolist()
    assert sorted(keys) == [f"G1/m.tif/{i:06d}" for i in range(20)] + [f"S/m.tif/{i:06d}" for i in range(7)]
    for key, cell in zip(keys, read_cells(manifest, range(27)), strict=True):
        wanted = np.floor(DEEP[int(key.rpartition("/")[2])] * (255 / 65535) + 0.5)
        assert (cell == wanted).all()
    listing = TiffStacks(tmp_path / "src", tile=(13, 17)).scan()
    assert listing.notes == ["tiles of a single grey level are left out as padding: 6."]
    with pytest.raises(ArgumentError, match=r"divide the page's 65 x 85 pixels, got '13x16'"):
        TiffStacks(tmp_path / "src", tile=(13, 16)).scan()


def test_real_montage_is_cut_back_into_its_cells(real_data, tmp_path):
    """The Jurkat cells laid out as they came, 30 x 30 tiles of 40 x 40 pixels."""
    paths = sorted((real_data / "jurkat" / "Prophase").glob("*.png"))
    cells = np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths])
    montage(tmp_path / "m.tif", cells, 30, 30)
    source = TiffStacks(tmp_path / "m.tif", tile=(40, 40))
    listing = source.scan()
    assert len(listing.items) == 424
    assert all((levels(source, item) == cell).all() for item, cell in zip(listing.items, cells, strict=True))


def test_single_images_are_no_stacks(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", PIXELS[0])
    tifffile.imwrite(tmp_path / "many.tif", PIXELS)
    (tmp_path / "none.tif").write_bytes(b"II*\0")
    assert [has_many_pages(str(tmp_path / f"{name}.tif")) for name in ("one", "many", "none")] == [False, True, False]


def test_chains_that_lead_nowhere(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, metadata=None)
    with tifffile.TiffFile(path) as file:
        pages = [(page.offset, len(page.tags)) for page in file.pages]
    good = path.read_bytes()

    def chained(page, place):
        data = bytearray(good)
        struct.pack_into("<I", data, pages[page][0] + 2 + 12 * pages[page][1], place)
        path.write_bytes(data)

    chained(5, pages[2][0])
    with pytest.raises(DataError, match="its pages form a circle"):
        TiffStacks(path).scan()
    chained(5, 1 << 31)
    with pytest.raises(DataError, match="truncated"):
        TiffStacks(path).scan()
    path.write_bytes(good[: pages[0][0] + 5])
    with pytest.raises(DataError, match="a.tif cannot be read"):
        TiffStacks(path).scan()


def test_strips_outside_of_the_file_are_quarantined(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, metadata=None)
    with tifffile.TiffFile(path) as file:
        entry = file.pages[3].tags["StripOffsets"].offset
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, entry + 8, len(data) - 10)
    path.write_bytes(data)
    manifest = pack(path, tmp_path / "out")
    assert len(manifest) == 19
    assert manifest.quarantine().select(["key", "reason"]).to_pylist() == [
        {"key": "a.tif/000003", "reason": "truncated"}
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("config", ["contig", "separate"])
def test_samples_of_a_page_are_channels(tmp_path, dtype, config):
    stack = np.stack([DEEP[:10], DEEP[10:]], 1).astype(dtype)  # 10 cells of 2 channels
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for cell in stack:
            stored = np.moveaxis(cell, 0, 2).copy() if config == "contig" else cell
            file.write(stored, photometric="minisblack", planarconfig=config, metadata=None)
    with pytest.raises(
        ArgumentError, match=r"--channel must be the channel to read, 0 to 1, got None\. .*2 channels per cell"
    ):
        TiffStacks(path).scan()
    with pytest.raises(ArgumentError, match=r"--channel must be a channel of every file, got 2\. .*it has 2, from 0"):
        TiffStacks(path, channel=2).scan()
    for channel in range(2):
        source = TiffStacks(path, channel=channel)
        items = source.scan().items
        assert [item.key for item in items] == [f"a.tif/{i:06d}" for i in range(10)]
        assert all((levels(source, item) == stack[i, channel]).all() for i, item in enumerate(items))


def test_channels_are_named_by_ome(tmp_path):
    stack = DEEP.reshape(10, 2, 13, 17)
    told = {"axes": "TCYX", "Channel": {"Name": ["bright field", "DAPI"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, ome=True, metadata=told)
    with pytest.raises(ArgumentError, match="0 to 1, or one of bright field, DAPI, got None"):
        TiffStacks(tmp_path / "a.ome.tif").scan()
    manifest = pack(
        tmp_path / "a.ome.tif",
        tmp_path / "out",
        read=ReadOptions(channel="DAPI"),
        window=(0.0, 65535.0),
        layout="block",
    )
    for key, cell in zip(manifest.column("key"), read_cells(manifest, range(10)), strict=True):
        wanted = np.floor(stack[int(key.rpartition("/")[2]), 1] * (255 / 65535) + 0.5)
        assert (cell == wanted).all()


def test_orientation_and_polarity_are_those_of_single_images(tmp_path):
    for orientation in range(1, 9):
        for photometric in ("minisblack", "miniswhite"):
            stack, one = tmp_path / f"{orientation}.tif", tmp_path / f"one-{orientation}.tif"
            how = {"photometric": photometric, "extratags": [(274, "H", 1, orientation, False)], "metadata": None}
            tifffile.imwrite(stack, DEEP[:3], **how)
            tifffile.imwrite(one, DEEP[2], **how)
            look_again()
            source = TiffStacks(stack)
            assert (levels(source, source.scan().items[2]) == read_single(one.read_bytes())[0]).all()


def test_a_damaged_page_is_quarantined_with_the_compression(tmp_path):
    path = tmp_path / "a.tif"
    smooth = np.stack([cv2.GaussianBlur(page, (0, 0), 4) for page in PIXELS])
    tifffile.imwrite(path, smooth, metadata=None, compression="lzw")
    with tifffile.TiffFile(path) as file:
        (place,) = file.pages[4].dataoffsets
    data = bytearray(path.read_bytes())
    data[place + 20 : place + 60] = bytes(40)
    path.write_bytes(data)
    manifest = pack(path, tmp_path / "out")
    assert len(manifest) == 19
    assert manifest.quarantine().column("reason").to_pylist() == ["damaged: strip 0 of a tif with compression LZW"]
