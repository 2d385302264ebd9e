"""TIFF: pages and headers as tifffile writes them, and chains that lead nowhere."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fastcell.dataset.decode import decode_levels
from fastcell.dataset.image_headers import ImageHeader
from fastcell.dataset.open_files import look_again
from fastcell.dataset.tiff import first_strip, image_bytes, is_contiguous, load_page, peek_tif, read_page, walk_pages
from fastcell.errors import BadCell, DataError
from fastcell.sources.tiff_description import read_description


def pixels(num: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (num, 17, 23)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"compression": "zlib"}, {"rowsperstrip": 5}])
def test_pages_are_those_that_were_written(tmp_path: Path, dtype: str, byteorder: str, options: dict) -> None:
    path, written = tmp_path / "a.tif", pixels(3, dtype)
    how = {name: value for name, value in options.items() if name != "bigtiff"}
    with tifffile.TiffWriter(path, bigtiff="bigtiff" in options, byteorder=byteorder) as file:
        for page in written:
            file.write(page, contiguous=False, **how)
    look_again()
    pages = list(walk_pages(str(path)))
    assert [page.sides for page in pages] == [(17, 23)] * 3
    for page, expected in zip(pages, written, strict=True):
        found = load_page(read_page(str(path), page.place))
        levels = decode_levels(found)[0] if isinstance(found, bytes) else found
        np.testing.assert_array_equal(levels, expected)
        assert isinstance(found, bytes) == ("compression" in options)
    assert peek_tif(path.read_bytes()) == ImageHeader(17, 23, 1)


def test_chains_that_lead_in_a_circle_or_out_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(2, "uint8"), metadata=None)
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (num,) = struct.unpack_from("<H", data, first)
    following = first + 2 + 12 * num
    for place, message in ((first, "its pages form a circle"), (len(data) + 5, "a page lies outside of the file")):
        struct.pack_into("<I", data, following, place)
        path.write_bytes(data)
        look_again()
        with pytest.raises(DataError, match=message):
            list(walk_pages(str(path)))


def test_claims_of_one_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 9, 3), np.uint8), photometric="rgb", metadata=None)
    assert peek_tif(path.read_bytes()) == ImageHeader(8, 9, 3)
    tifffile.imwrite(path, np.zeros((8, 9), np.float32), metadata=None)
    with pytest.raises(BadCell, match="32-bit tif, not 8 or 16"):
        peek_tif(path.read_bytes())
    with pytest.raises(BadCell, match="truncated"):
        peek_tif(path.read_bytes()[:20])


RNG = np.random.default_rng(0)


PIXELS = RNG.integers(0, 256, (5, 40, 33)).astype(np.uint8)


DEEP = PIXELS.astype(np.uint16) * 211


@pytest.fixture
def path(tmp_path):
    look_again()
    return str(tmp_path / "a.tif")


def levels(page, number=0):
    data = load_page(page, number)
    return data if isinstance(data, np.ndarray) else decode_levels(data)[0]


@pytest.mark.parametrize(
    ("pixels", "how", "is_bare"),
    [
        (PIXELS, {}, True),
        (DEEP, {"byteorder": ">"}, True),
        (DEEP, {"bigtiff": True}, True),
        (PIXELS, {"rowsperstrip": 7}, True),
        (PIXELS, {"photometric": "miniswhite"}, True),
        (DEEP, {"compression": "zlib", "predictor": True, "byteorder": ">"}, False),
        (PIXELS, {"compression": "zlib", "rowsperstrip": 7, "bigtiff": True}, False),
        (DEEP, {"tile": (16, 32)}, False),
    ],
)
def test_pages_have_their_pixels(path, pixels, how, is_bare):
    tifffile.imwrite(path, pixels, metadata=None, **how)
    pages = list(walk_pages(path))
    assert [page.sides for page in pages] == [(40, 33)] * 5
    expected = 255 - pixels if how.get("photometric") == "miniswhite" else pixels
    for page, wanted in zip(pages, expected, strict=True):
        again = read_page(path, page.place)
        assert again == page
        assert isinstance(load_page(page), np.ndarray) == is_bare
        assert np.array_equal(levels(again), wanted)


def test_reduced_pages_are_known(path):
    with tifffile.TiffWriter(path) as file:
        file.write(PIXELS[0], metadata=None)
        file.write(PIXELS[0, ::2, ::2], subfiletype=1, metadata=None)
    assert [(page.is_reduced, page.sides) for page in walk_pages(path)] == [(False, (40, 33)), (True, (20, 17))]


def test_images_behind_one_directory(path):
    tifffile.imwrite(path, DEEP, metadata=None, contiguous=True)
    page = next(iter(walk_pages(path)))
    assert is_contiguous(page)
    assert image_bytes(page) == 40 * 33 * 2
    with tifffile.TiffFile(path) as file:
        assert first_strip(page) == file.pages[0].dataoffsets[0]
    assert np.array_equal(levels(page, 3), DEEP[3])


def test_strips_with_gaps_are_not_contiguous(path):
    tifffile.imwrite(path, PIXELS[0], rowsperstrip=10, metadata=None)
    page = next(iter(walk_pages(path)))
    assert is_contiguous(page)
    places = page.numbers(273)
    kind, count, where = page.tags[273]
    with open(path, "r+b") as file:
        file.seek(where)
        file.write(struct.pack("<" + {3: "H", 4: "I"}[kind] * count, places[0], *(place + 1 for place in places[1:])))
    look_again()
    assert not is_contiguous(next(iter(walk_pages(path))))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"axes": "TYX", "PhysicalSizeX": 325.0, "PhysicalSizeXUnit": "nm"}, 0.325),
        ({"axes": "TYX", "PhysicalSizeX": 0.5}, 0.5),
        ({"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "pixel"}, math.nan),
        ({"axes": "TYX"}, math.nan),
    ],
)
def test_ome_tells_the_pixel_size_and_axes(path, metadata, expected):
    tifffile.imwrite(path, PIXELS, ome=True, metadata=metadata)
    found = read_description(next(iter(walk_pages(path))))
    assert found.um_per_px == pytest.approx(expected, nan_ok=True)
    assert found.images == 1
    assert dict(found.axes) == {"Z": 1, "C": 1, "T": 5}


def test_ome_names_the_fastest_axis_first(path):
    tifffile.imwrite(path, DEEP[:4].reshape(2, 2, 40, 33), ome=True, metadata={"axes": "TCYX"})
    axes = read_description(next(iter(walk_pages(path)))).axes
    assert [(name, size) for name, size in axes if size > 1] == [("C", 2), ("T", 2)]


def test_imagej_tells_the_number_of_images_and_the_pixel_size(path):
    tifffile.imwrite(path, DEEP, imagej=True, resolution=(4, 4), metadata={"unit": "um", "axes": "ZYX"})
    found = read_description(next(iter(walk_pages(path))))
    assert found == (0.25, 5, (("C", 1), ("Z", 5), ("T", 1)))
    tifffile.imwrite(path, DEEP, imagej=True, resolution=(4, 4), metadata={"unit": "inch", "axes": "ZYX"})
    look_again()
    assert math.isnan(read_description(next(iter(walk_pages(path)))).um_per_px)


def test_a_description_of_anything_else_tells_nothing(path):
    tifffile.imwrite(path, PIXELS[0], description="a picture", metadata=None)
    found = read_description(next(iter(walk_pages(path))))
    assert (math.isnan(found.um_per_px), found.images, found.axes) == (True, 1, ())


def change(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
    look_again()


@pytest.mark.parametrize(
    "content", [b"", b"II*", b"PNG or something", b"II\x2a\0\xff\xff\xff\xff", b"II\x63\0" + bytes(40)]
)
def test_what_is_no_tiff(path, content):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(DataError, match=r"a\.tif cannot be read"):
        list(walk_pages(path))


def test_pages_of_unlikely_size_or_cut_short(path):
    tifffile.imwrite(path, PIXELS[0], metadata=None)
    page = next(iter(walk_pages(path)))
    huge = page._replace(tags={**page.tags, 256: (4, 1, struct.pack("<I", 1 << 30))})
    with pytest.raises(BadCell, match="too large: 1073741824 x 40 pixels"):
        load_page(huge)
    none = page._replace(tags={**page.tags, 256: (4, 1, bytes(4))})
    with pytest.raises(BadCell, match="no pixels"):
        load_page(none)
    with open(path, "r+b") as file:
        file.truncate(first_strip(page) + 100)
    look_again()
    with pytest.raises(BadCell, match="truncated"):
        load_page(page)
    assert first_strip(page._replace(tags={})) == 1 << 62
