"""TIFF: pages and headers as tifffile writes them, and chains that lead nowhere."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fastcell.dataset.decode import decode_levels
from fastcell.dataset.image_headers import ImageHeader
from fastcell.dataset.open_files import look_again
from fastcell.dataset.tiff import load_page, peek_tif, read_page, walk_pages
from fastcell.errors import BadCell, DataError


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
