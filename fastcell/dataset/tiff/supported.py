"""Pages of a TIFF that can be read: compressions, depths, kinds of colour, and limits on their sizes."""

from __future__ import annotations

from typing import Any

from fastcell.dataset.image_headers import MAX_FILE_BYTES, MAX_PIXELS
from fastcell.errors import BadCell

NONE, LZW, JPEG = 1, 5, 7
READ_COMPRESSIONS = {
    NONE: "none",
    LZW: "LZW",
    JPEG: "JPEG",
    8: "deflate",
    32946: "deflate",
    32773: "PackBits",
    34925: "LZMA",
    34926: "zstd",
    50000: "zstd",
}
"""Compressions that are read, by their number in the file.

The others are separate image formats inside a TIFF: they state sizes a second time, or they decode damaged
data without an error.
"""

COMPRESSION_NAMES = READ_COMPRESSIONS | {
    2: "CCITT RLE",
    3: "CCITT fax 3",
    4: "CCITT fax 4",
    6: "old-style JPEG",
    9: "JBIG",
    10: "JBIG",
    22610: "JPEG XR",
    32766: "NeXT",
    32809: "ThunderScan",
    32908: "PixarFilm",
    32909: "PixarLog",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    33007: "JPEG",
    34661: "JBIG",
    34676: "SGI log",
    34677: "SGI log 24",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34927: "WebP",
    34933: "PNG",
    34934: "JPEG XR",
    48124: "Jetraw",
    50001: "WebP",
    50002: "JPEG XL",
    50013: "deflate of PIXTIFF",
    52546: "JPEG XL",
}

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
_COLOUR_NAMES = {4: "a mask", 5: "CMYK", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "CFA", 32844: "LogL"}
_COLOUR_NAMES |= {32845: "LogLuv", 34892: "linear raw"}
_ALPHA = (1, 2)  # kinds of extra samples: alpha that the colours are multiplied by, and alpha that they are not
_HORIZONTAL = 2
_UNSIGNED = (1, 4)  # kinds of numbers: unsigned, and undefined
_KINDS = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}
_MOST_PIECE_PIXELS = 1 << 24
_MOST_SAMPLES = 256


def check_page(page: Any) -> None:
    """Check that a page can be read.

    Args:
        page: a `tifffile.TiffPage`.

    Raises:
        BadCell: the page has a compression, a depth or a kind of colour that is not read, or it is too large.
    """
    height, width, samples = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    if height < 1 or width < 1 or samples < 1:
        raise BadCell("no pixels")
    if height * width > MAX_PIXELS or samples > _MOST_SAMPLES:
        raise BadCell(f"too large: {width} x {height} pixels{f' of {samples} samples' if samples > 1 else ''}")
    if int(page.imagedepth) != 1:
        raise BadCell("tif of a volume in one page; save its slices as pages")
    _check_compression(int(page.compression))
    _check_depth(page)
    if height * width * samples * (page.bitspersample // 8) > MAX_FILE_BYTES:
        raise BadCell(f"too large: {width} x {height} pixels of {samples} samples")
    # The decoder allocates memory for whole strips or tiles, even if the image fills only a part of one.
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    if rows < 1 or columns < 1 or int(page.tiledepth) != 1 or int(page.planarconfig) not in (1, 2):
        raise BadCell("damaged tif header")
    if rows * columns > max(_MOST_PIECE_PIXELS, 4 * height * width):
        raise BadCell(f"too large: tif in pieces of {columns} x {rows} pixels")
    _check_colour(page)


def num_colours(page: Any) -> int:
    """Return 3 for a page that is declared to be colour, 1 for a grey or palette image, and 0 for channels.

    One alpha sample does not count. Further samples are channels, whatever the kind of colour.
    """
    samples, extra = int(page.samplesperpixel), _extra_samples(page)
    if photometric_of(page) in (RGB, YCBCR):
        return 3 if samples == 3 or (samples == 4 and len(extra) <= 1) else 0
    return 1 if samples == 1 or (samples == 2 and len(extra) == 1 and extra[0] in _ALPHA) else 0


def _extra_samples(page: Any) -> list[int]:
    return [int(kind) for kind in page.extrasamples]


def photometric_of(page: Any) -> int:
    """Return the kind of colour of a page. Without the tag it follows from the number of samples."""
    if 262 in page.tags:
        return int(page.photometric)
    return RGB if int(page.samplesperpixel) in (3, 4) else BLACK_IS_ZERO


def _check_compression(number: int) -> None:
    if number not in READ_COMPRESSIONS:
        name = COMPRESSION_NAMES.get(number, f"number {number}")
        raise BadCell(f"tif with compression {name}, which is not read; save with LZW or deflate")


def _check_depth(page: Any) -> None:
    bits, kind = page.bitspersample, page.sampleformat
    if not isinstance(bits, int) or not isinstance(kind, int):
        raise BadCell("tif of samples that differ in depth; save them as 8 or 16 bit")
    if int(kind) not in _UNSIGNED:
        word = _KINDS.get(int(kind), f"format {int(kind)}")
        raise BadCell(f"{bits}-bit tif of {word} numbers, not 8 or 16 bit unsigned")
    if bits not in (8, 16) or page.dtype is None:
        raise BadCell(f"{bits}-bit tif, not 8 or 16")
    if int(page.compression) == JPEG and bits != 8:
        raise BadCell(f"{bits}-bit tif with compression JPEG, which is not read; save with LZW or deflate")
    if int(page.compression) == JPEG and int(page.planarconfig) == 1 and int(page.samplesperpixel) == 2:
        raise BadCell("tif with compression JPEG of 2 samples, which is not read; save with LZW or deflate")
    if int(page.compression) != JPEG and int(page.predictor) not in (1, _HORIZONTAL):
        raise BadCell(f"tif with predictor {int(page.predictor)}, which is not read; save with LZW or deflate")


def _check_colour(page: Any) -> None:
    colour = photometric_of(page)
    samples = int(page.samplesperpixel)
    if colour not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR):
        raise BadCell(f"tif of {_COLOUR_NAMES.get(colour, f'colour {colour}')}, which is not read; save as grey or RGB")
    if colour == YCBCR and int(page.compression) != JPEG:
        raise BadCell("tif of YCbCr without JPEG, which is not read; save as grey or RGB")
    num_colours(page)  # fails if its values are no numbers
    if colour in (RGB, YCBCR) and samples < 3:
        raise BadCell("damaged tif header")
    if colour == PALETTE:
        table = page.colormap
        if table is None or getattr(table, "shape", ()) != (3, 1 << page.bitspersample):
            raise BadCell("damaged tif header")
        if page.bitspersample != 8 or samples > 2:
            raise BadCell(f"{page.bitspersample}-bit tif with a palette, not 8")
