"""One grey image of each kind of TIFF, against the stored values and against Pillow."""

import io

import numpy as np
import pytest
import tifffile
from fixtures.written_bytes import tiff
from PIL import Image, ImageOps

from fastcell.dataset.tiff.contents import read_single
from fastcell.errors import BadCell

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (21, 34, 3)).astype(np.uint8)
GREY = COLOUR[:, :, 0]
ALPHA = RNG.integers(0, 256, (21, 34, 1)).astype(np.uint8)
WEIGHTS = (0.299, 0.587, 0.114)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("alpha", [None, "unassalpha", "assocalpha", "unspecified"])
def test_colours_become_grey_by_their_weights(dtype, planes, alpha):
    pixels = COLOUR if alpha is None else np.dstack([COLOUR, ALPHA])
    pixels = pixels.astype(dtype) * (1 if dtype == np.uint8 else 257)
    stored = pixels if planes == "contig" else np.moveaxis(pixels, 2, 0).copy()
    extra = {} if alpha is None else {"extrasamples": [alpha]}
    grey, samples = read_single(tiff(stored, photometric="rgb", planarconfig=planes, **extra))
    assert grey.dtype == dtype
    assert samples == pixels.shape[2]
    assert np.abs(grey - pixels[:, :, :3].astype(float) @ WEIGHTS).max() <= 0.51


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_polarity(dtype):
    pixels = GREY.astype(dtype) * (1 if dtype == np.uint8 else 257)
    np.testing.assert_array_equal(read_single(tiff(pixels))[0], pixels)
    inverted = np.iinfo(dtype).max - pixels
    np.testing.assert_array_equal(read_single(tiff(pixels, photometric="miniswhite"))[0], inverted)


def test_alpha_of_grey_is_dropped():
    data = tiff(np.dstack([GREY[:, :, None], ALPHA]), photometric="minisblack", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_single(data)[0], GREY)
    np.testing.assert_array_equal(read_single(data, 1)[0], ALPHA[:, :, 0])


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_palettes(factor):
    table = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    data = tiff(GREY, photometric="palette", colormap=table * factor)
    expected = table.T[GREY].astype(float) @ WEIGHTS
    assert np.abs(read_single(data)[0] - expected).max() <= 0.51


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_orientations_are_those_of_pillow(orientation, compression):
    data = tiff(GREY, compression=compression, extratags=[(274, "H", 1, orientation, True)])
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(read_single(data)[0], expected)


def test_an_orientation_of_no_meaning():
    with pytest.raises(BadCell, match="damaged tif header"):
        read_single(tiff(GREY, extratags=[(274, "H", 1, 9, True)]))


@pytest.mark.parametrize("space", ["rgb", "ycbcr"])
def test_jpeg_of_colours(space):
    smooth = np.dstack([np.add.outer(np.arange(40), np.arange(40) * shift).astype(np.uint8) for shift in (1, 2, 3)])
    data = tiff(smooth, photometric="rgb" if space == "rgb" else "ycbcr", compression="jpeg")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        expected = file.pages[0].asarray().astype(float) @ WEIGHTS
    assert np.abs(read_single(data)[0] - expected).max() <= 0.51
