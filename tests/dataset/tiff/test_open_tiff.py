"""Samples are those of tifffile, and no buffer is handed out that a codec did not fill."""

import io
import logging
import struct
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile
from fixtures.written_bytes import tiff

from fastcell.dataset.open_files import look_again
from fastcell.dataset.tiff.open_tiff import OpenTiff, open_tiff
from fastcell.errors import BadCell

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 33)).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 211
COLOUR = RNG.integers(0, 256, (40, 33, 3)).astype(np.uint8)


def first_samples(data):
    file = OpenTiff(data)
    return file.samples(next(file.directories()).place)[0]


def with_tag(data, tag, value, kind=4, count=1):
    """The file with the entry of a tag in its first directory changed."""
    changed = bytearray(data)
    (place,) = struct.unpack_from("<I", data, 4)
    (num,) = struct.unpack_from("<H", data, place)
    for entry in range(place + 2, place + 2 + 12 * num, 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            struct.pack_into("<HHII", changed, entry, tag, kind, count, value)
            return bytes(changed)
    raise AssertionError(f"no tag {tag}")


@pytest.mark.parametrize("pixels", [GREY, DEEP, COLOUR])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"rowsperstrip": 7},
        {"tile": (16, 32)},
        {"compression": "zlib", "predictor": True, "byteorder": ">"},
        {"compression": "lzw", "rowsperstrip": 7, "bigtiff": True},
        {"compression": "packbits", "tile": (16, 16)},
        {"compression": "zstd"},
        {"compression": "lzma"},
    ],
)
def test_samples_are_those_of_tifffile(pixels, options):
    options = dict(options)
    how = {"photometric": "rgb"} if pixels.ndim == 3 else {}
    if "predictor" in options and pixels.ndim == 3:
        how["planarconfig"] = "contig"
    data = tiff(pixels, **options, **how)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        expected = file.pages[0].asarray()
    np.testing.assert_array_equal(first_samples(data).reshape(pixels.shape), expected)
    np.testing.assert_array_equal(expected, pixels)


@pytest.mark.parametrize("pixels", [GREY, DEEP])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
def test_bytes_with_the_lowest_bit_first(pixels, compression):
    data = bytearray(tiff(pixels, compression=compression, extratags=[(65000, "H", 1, 2, True)]))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        page = file.pages[0]
        data[page.tags[65000].offset : page.tags[65000].offset + 2] = struct.pack("<H", 266)
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            data[offset : offset + count] = imagecodecs.bitorder_decode(bytes(data[offset : offset + count]))
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(bytes(data))), pixels)
    np.testing.assert_array_equal(first_samples(bytes(data))[:, :, 0], pixels)


def test_planes_are_read_like_pixels_side_by_side():
    planes = np.moveaxis(COLOUR, 2, 0).copy()
    data = tiff(planes, photometric="rgb", planarconfig="separate", compression="lzw")
    np.testing.assert_array_equal(first_samples(data), COLOUR)


def test_images_behind_one_directory(tmp_path):
    stack = np.stack([DEEP, DEEP + 1, DEEP + 2])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, metadata=None, photometric="minisblack", contiguous=True)
    file = open_tiff(str(path))
    first = next(file.directories())
    assert file.holds_images(first, 3)
    assert not file.holds_images(first, 1000)
    np.testing.assert_array_equal(file.samples(first.place, 2)[0][:, :, 0], stack[2])
    data = tiff(GREY, compression="zlib")
    packed = OpenTiff(data)
    assert not packed.holds_images(next(packed.directories()), 2)
    with pytest.raises(BadCell, match="damaged tif header"):
        packed.samples(next(packed.directories()).place, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(GREY)[:600], "truncated"),
        (with_tag(tiff(GREY), 279, 100), "damaged: strip 0 of a tif with compression none"),
        (with_tag(tiff(GREY), 279, 0), "tif without the data of all strips or tiles"),
        (with_tag(tiff(GREY), 273, 0), "tif without the data of all strips or tiles"),
        (with_tag(tiff(GREY), 273, 1 << 30), "truncated"),
        (with_tag(tiff(GREY), 278, 4), "damaged tif header"),  # ten strips, of which one is there
        (with_tag(tiff(GREY), 256, 1 << 30), "too large"),
        (with_tag(tiff(GREY), 256, 0), "no pixels"),
        (with_tag(tiff(GREY), 256, 33, kind=99), "damaged tif header"),  # left out by tifffile
        (with_tag(tiff(GREY), 262, 1, kind=3, count=1 << 30), "damaged tif header"),
        (with_tag(tiff(GREY, tile=(16, 16)), 322, 16384), "damaged tif header|too large"),
        (with_tag(with_tag(tiff(GREY), 256, 8000), 257, 8000), "damaged tif header"),  # of many strips one is there
        (with_tag(with_tag(with_tag(tiff(GREY), 256, 8000), 257, 8000), 278, 8000), "truncated: 8000 x 8000 pixels"),
        (b"II*\0\x08\0\0\0\x01\0" + bytes(30), "no pixels"),
    ],
)
def test_pages_that_claim_too_much(data, reason):
    with pytest.raises(BadCell, match=reason):
        first_samples(data)


def test_the_log_of_tifffile_stays_as_it_was(caplog):
    with caplog.at_level(logging.DEBUG, "tifffile"), pytest.raises(BadCell):
        first_samples(with_tag(tiff(GREY), 256, 33, kind=99))
    assert caplog.text == ""
    assert not logging.getLogger("tifffile").disabled


def test_a_changed_file_is_opened_anew(tmp_path):
    path = tmp_path / "a.tif"
    for pixels in (GREY, DEEP):
        path.write_bytes(tiff(pixels))
        look_again()
        file = open_tiff(str(path))
        np.testing.assert_array_equal(file.samples(next(file.directories()).place)[0][:, :, 0], pixels)


def test_the_libraries_are_imported_with_the_first_tiff_alone():
    code = (
        "import sys, io, numpy as np; import fastcell.sources.registry, fastcell.packing.pack;"
        "from fastcell.dataset.decode import decode; file = io.BytesIO(); np.save(file, np.ones((4, 5), np.uint8));"
        "decode(file.getvalue(), 'npy'); print({'tifffile', 'imagecodecs'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_missing_library_is_named_with_the_command_that_installs_it():
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from fastcell.errors import FastcellError\n"
        "try:\n    import fastcell.dataset.tiff.open_tiff\n"
        "except FastcellError as error:\n    print(error)\n"
    )
    text = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "imagecodecs cannot be imported" in text
    assert "pip install" in text
