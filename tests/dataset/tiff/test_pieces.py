"""Damaged strips and tiles are failures, whatever the codec makes of them."""

import io
import random

import cv2
import numpy as np
import pytest
import tifffile
from fixtures.written_bytes import tiff

from fastcell.dataset.tiff.open_tiff import OpenTiff
from fastcell.errors import BadCell

GREY = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8), (0, 0), 1.5)
DEEP = GREY.astype(np.uint16) * 200
COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])


def samples(data):
    file = OpenTiff(data)
    return file.samples(next(file.directories()).place)[0]


def pieces_of(data):
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        return list(zip(page.dataoffsets, page.databytecounts, strict=True))


LAYOUTS = ({"rowsperstrip": 8}, {"tile": (16, 16)})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd", "lzma", "jpeg"])
@pytest.mark.parametrize("pixels", [GREY, DEEP, COLOUR])
def test_a_piece_of_zeros_is_damage(pixels, compression, layout):
    if compression == "jpeg" and pixels.dtype != np.uint8:
        pytest.skip("JPEG holds 8 bits")
    how = {"photometric": "rgb"} if pixels.ndim == 3 else {}
    data = bytearray(tiff(pixels, compression=compression, **layout, **how))
    offset, count = pieces_of(bytes(data))[2]
    assert samples(bytes(data)).shape[:2] == (40, 40)
    kept = 300 if compression == "jpeg" and count > 400 else 0  # tables and headers of a JPEG stay
    data[offset + kept : offset + count - 2] = bytes(count - 2 - kept)
    with pytest.raises(BadCell, match="damaged|truncated"):
        samples(bytes(data))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd", "lzma", "jpeg"])
def test_a_piece_cut_short_is_damage(compression, layout):
    data = bytearray(tiff(GREY, compression=compression, **layout))
    offset, count = pieces_of(bytes(data))[1]
    data[offset + count // 2 : offset + count] = bytes(count - count // 2)
    with pytest.raises(BadCell, match="damaged|truncated"):
        samples(bytes(data))


def test_lzw_that_gives_too_many_bytes_is_damage():
    """tifffile cuts them off, so that its own pixels are wrong without an error."""
    data = tiff(GREY, compression="lzw")
    ((offset, count),) = pieces_of(data)
    rng, wrong = random.Random(0), 0
    for _ in range(200):
        hit = bytearray(data)
        hit[offset + rng.randrange(count)] ^= rng.randrange(1, 256)
        with tifffile.TiffFile(io.BytesIO(bytes(hit))) as file:
            try:
                theirs = file.pages[0].asarray()
            except Exception:  # noqa: BLE001
                continue
        try:
            ours = samples(bytes(hit))[:, :, 0]
        except BadCell:
            wrong += 1
            assert not np.array_equal(theirs, GREY)
        else:
            np.testing.assert_array_equal(ours, theirs)
    assert wrong > 20


def test_jpeg_of_another_size_than_its_piece_is_damage():
    small, large = (tiff(pixels, compression="jpeg") for pixels in (GREY[:16, :16], np.tile(GREY, (3, 3))))
    (place, count), (offset, num) = pieces_of(small)[0], pieces_of(large)[0]
    assert num > count
    data = bytearray(small[:place]) + large[offset : offset + num]
    with tifffile.TiffFile(io.BytesIO(small)) as file:
        tag = file.pages[0].tags[279]
    data[tag.valueoffset : tag.valueoffset + 4] = num.to_bytes(4, "little")
    with pytest.raises(BadCell, match="damaged jpg header"):
        samples(bytes(data))


def test_rows_of_the_last_strip_that_are_not_in_the_image_are_allowed():
    import imagecodecs

    whole = tiff(np.vstack([GREY, GREY[:8]])[:48], compression="lzw", rowsperstrip=16)
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        tag = file.pages[0].tags[257]
    data = bytearray(whole)
    data[tag.valueoffset : tag.valueoffset + 2] = (40).to_bytes(2, "little")
    np.testing.assert_array_equal(samples(bytes(data))[:, :, 0], GREY)
    assert len(imagecodecs.lzw_decode(whole[pieces_of(whole)[2][0] :][: pieces_of(whole)[2][1]])) == 16 * 40
