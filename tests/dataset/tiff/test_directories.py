"""The chain of directories: limits, loops and ends of the file, in all four kinds of TIFF."""

import io
import struct

import numpy as np
import pytest
import tifffile

from fastcell.dataset.tiff.directories import (
    DESCRIPTION_TAG,
    read_directory,
    read_layout,
    read_places,
    read_text,
    walk_directories,
)
from fastcell.errors import BadCell

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 21, 34)).astype(np.uint8)


def tiff(**options):
    file = io.BytesIO()
    how = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
    with tifffile.TiffWriter(file, **how) as writer:
        for page in PIXELS:
            writer.write(page, metadata=None, **options)
    return file.getvalue()


def reader(data):
    return lambda offset, num: data[offset : offset + num]


def walk(data):
    return list(walk_directories(reader(data), len(data)))


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("rows", [None, 4])
def test_places_and_texts_are_those_of_tifffile(bigtiff, byteorder, rows):
    data = tiff(bigtiff=bigtiff, byteorder=byteorder, rowsperstrip=rows, description="a text")
    layout = read_layout(reader(data))
    assert (layout.order, layout.is_big) == (byteorder, bigtiff)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pages = list(file.pages)
        found = walk(data)
        assert [directory.place for directory in found] == [page.offset for page in pages]
        for directory, page in zip(found, pages, strict=True):
            for tag, values in ((273, page.dataoffsets), (279, page.databytecounts)):
                assert read_places(reader(data), layout, directory.entries[tag]) == tuple(values)
            assert read_text(reader(data), layout, directory.entries[DESCRIPTION_TAG]) == page.description
            assert directory.is_inline
            assert read_directory(reader(data), len(data), layout, directory.place) == directory
    assert len({directory.decoding for directory in found}) == 1


def test_pages_that_are_decoded_otherwise_differ():
    plain, deflated, tiled = (
        walk(tiff(**how))[0].decoding for how in ({}, {"compression": "zlib"}, {"tile": (16, 16)})
    )
    assert len({plain, deflated, tiled}) == 3
    file = io.BytesIO()
    tifffile.imwrite(file, np.dstack(PIXELS), photometric="rgb", metadata=None)
    assert not walk(file.getvalue())[0].is_inline  # three depths, which are stored elsewhere


def test_smaller_copies_and_masks():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for kind in (0, 1, 4, 2):
            writer.write(PIXELS[0] > 9 if kind == 4 else PIXELS[0], subfiletype=kind, metadata=None)
    assert [directory.is_reduced for directory in walk(file.getvalue())] == [False, True, True, False]


def test_circles_and_ends_of_the_file():
    data = bytearray(tiff())
    first = walk(bytes(data))[0]
    (num,) = struct.unpack_from("<H", data, first.place)
    following = first.place + 2 + 12 * num
    for place, reason in ((first.place, "its pages form a circle"), (len(data) + 5, "truncated")):
        struct.pack_into("<I", data, following, place)
        with pytest.raises(BadCell, match=reason):
            walk(bytes(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a TIFF"),
        (b"II*", "not a TIFF|truncated"),
        (b"PNG or something", "not a TIFF"),
        (b"II\x63\0" + bytes(40), "not a TIFF"),
        (b"II*\0\xff\xff\xff\xff", "truncated"),
        (b"II*\0\0\0\0\0" + bytes(40), "damaged tif header"),  # no page
        (b"II+\0\x08\0\0\0" + struct.pack("<Q", 1 << 63), "truncated"),
        (b"II*\0\x08\0\0\0" + struct.pack("<H", 600) + bytes(9000), "damaged tif header"),
        (b"II*\0\x08\0\0\0" + struct.pack("<H", 100) + bytes(900), "truncated"),
    ],
)
def test_what_is_no_tiff(data, reason):
    with pytest.raises(BadCell, match=reason):
        walk(data)


def test_values_that_claim_too_much():
    data = tiff()
    layout = read_layout(reader(data))
    for kind, count, reason in ((4, 1 << 20, "damaged"), (9, 1, "damaged"), (4, 60_000, "truncated")):
        with pytest.raises(BadCell, match=reason):
            read_places(reader(data), layout, struct.pack("<HHII", 273, kind, count, 8))
    assert read_text(reader(data), layout, struct.pack("<HHII", 270, 4, 1, 8)) == ""
