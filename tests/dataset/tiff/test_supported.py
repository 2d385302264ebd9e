"""What is not read is refused by its name, before memory is taken."""

import io

import numpy as np
import pytest
import tifffile
from fixtures.written_bytes import tiff

from fastcell.dataset.tiff.open_tiff import OpenTiff
from fastcell.dataset.tiff.supported import COMPRESSION_NAMES, READ_COMPRESSIONS, check_page, num_colours
from fastcell.errors import BadCell

GREY = np.random.default_rng(0).integers(0, 256, (40, 33)).astype(np.uint8)
VOLUME = np.stack([GREY] * 8)
HINT = "which is not read; save with LZW or deflate"


def page_of(data):
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return file.pages[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(GREY, compression="jpeg2000"), f"tif with compression JPEG 2000, {HINT}"),
        (tiff(GREY, compression="jpegxl"), f"tif with compression JPEG XL, {HINT}"),
        (tiff(GREY, compression="jpegxr"), f"tif with compression JPEG XR, {HINT}"),
        (tiff(GREY, compression="lerc"), f"tif with compression LERC, {HINT}"),
        (tiff(GREY, compression="png"), f"tif with compression PNG, {HINT}"),
        (tiff(np.dstack([GREY] * 3), photometric="rgb", compression="webp"), f"tif with compression WebP, {HINT}"),
        (tiff(GREY.astype(np.float32)), "32-bit tif of floating point numbers, not 8 or 16 bit unsigned"),
        (tiff(GREY.astype(np.int16)), "16-bit tif of signed numbers, not 8 or 16 bit unsigned"),
        (tiff(GREY.astype(np.complex64)), "64-bit tif of complex numbers, not 8 or 16 bit unsigned"),
        (tiff(GREY.astype(np.uint32)), "32-bit tif, not 8 or 16"),
        (tiff(GREY > 9), "1-bit tif, not 8 or 16"),
        (tiff(GREY.astype(np.uint16) * 9, bitspersample=12), "12-bit tif, not 8 or 16"),
        (tiff(np.dstack([GREY] * 4), photometric="separated"), "tif of CMYK, which is not read; save as grey or RGB"),
        (tiff(np.dstack([GREY] * 3), photometric="cielab"), "tif of CIELab, which is not read; save as grey or RGB"),
        (
            tiff(VOLUME, volumetric=True, tile=(16, 16, 16)),
            "tif of a volume in one page; save its slices as pages",
        ),
    ],
)
def test_reasons_name_the_cause(data, reason):
    file = OpenTiff(data)
    with pytest.raises(BadCell) as caught:
        file.samples(next(file.directories()).place)
    assert caught.value.reason == reason


def test_private_compressions_are_named_by_number():
    data = tiff(GREY, compression="lzw")
    page = page_of(data)
    page.compression = 65535
    with pytest.raises(BadCell, match="compression number 65535"):
        check_page(page)


def test_each_compression_that_is_read_has_a_name_and_a_codec():
    assert set(READ_COMPRESSIONS) <= set(COMPRESSION_NAMES)
    assert all(number in tifffile.TIFF.DECOMPRESSORS for number in READ_COMPRESSIONS)


@pytest.mark.parametrize(
    ("pixels", "options", "expected"),
    [
        (GREY, {}, 1),
        (np.dstack([GREY] * 2), {"photometric": "minisblack", "planarconfig": "contig"}, 0),
        (np.dstack([GREY] * 2), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}, 1),
        (np.dstack([GREY] * 3), {"photometric": "rgb"}, 3),
        (np.dstack([GREY] * 4), {"photometric": "rgb"}, 3),
        (np.dstack([GREY] * 5), {"photometric": "rgb", "extrasamples": ["unspecified", "unspecified"]}, 0),
        (np.dstack([GREY] * 4), {"photometric": "minisblack", "planarconfig": "contig"}, 0),
    ],
)
def test_declared_colour_and_channels(pixels, options, expected):
    assert num_colours(page_of(tiff(pixels, **options))) == expected
