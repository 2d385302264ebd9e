"""Pixel size, axes and channels, as OME, ImageJ and tifffile write them."""

import io
import math

import numpy as np
import pytest
import tifffile

from fastcell.dataset.tiff.description import read_description
from fastcell.dataset.tiff.open_tiff import OpenTiff


def described(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    opened = OpenTiff(file.getvalue())
    return opened.description(next(opened.directories()))


@pytest.mark.parametrize(
    ("unit", "size", "expected"),
    [("µm", 0.25, 0.25), ("nm", 320.0, 0.32), ("mm", 2e-4, 0.2), ("pixel", 0.5, math.nan), ("µm", 1e9, math.nan)],
)
def test_ome(unit, size, expected):
    metadata = {
        "axes": "TCYX",
        "PhysicalSizeX": size,
        "PhysicalSizeXUnit": unit,
        "Channel": {"Name": ["DAPI", "A & B"]},
    }
    found = described(np.zeros((3, 2, 8, 9), np.uint8), ome=True, metadata=metadata)
    assert found.um_per_px == pytest.approx(expected, nan_ok=True)
    assert [(letter, num) for letter, num in found.axes if num > 1] == [("C", 2), ("T", 3)]
    assert found.channel_names == ("DAPI", "A & B")
    assert (found.images, found.is_part) == (1, False)


def test_several_images_of_ome_are_one_more_axis():
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        for _ in range(3):
            writer.write(np.zeros((2, 8, 9), np.uint8), metadata={"axes": "CYX"})
    opened = OpenTiff(file.getvalue())
    found = opened.description(next(opened.directories()))
    assert [(letter, num) for letter, num in found.axes if num > 1] == [("C", 2), ("I", 3)]


def test_ome_of_several_files():
    text = '<OME><Pixels SizeC="2"/><UUID FileName="a.tif"/><UUID FileName="b.tif"/></OME>'
    assert read_description(text, 1, lambda: None).is_part


def test_imagej():
    pixels = np.zeros((4, 2, 8, 9), np.uint16)
    found = described(pixels, imagej=True, resolution=(5.0, 5.0), metadata={"axes": "TCYX", "unit": "um"})
    assert found.um_per_px == pytest.approx(0.2)
    assert found.axes == (("C", 2), ("Z", 1), ("T", 4))
    assert found.images == 8
    found = described(pixels, imagej=True, resolution=(4, 4), metadata={"axes": "TCYX", "unit": "inch"})
    assert math.isnan(found.um_per_px)


def test_tifffile():
    found = described(np.zeros((4, 2, 8, 9), np.uint8), metadata={"axes": "TCYX"}, photometric="minisblack")
    assert found.axes == (("C", 2), ("T", 4))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a text",
        "<OME><Pixels PhysicalSizeX='x",
        '{"shape": [4, 8, 9]}',
        '{"shape": [4, 8], "axes": "CYX"}',
        '{"shape": [1e99, 8, 9], "axes": "CYX"}',
        "[" * 100_000,
        "{" * 100_000,
        '{"a":' * 100_000,
        "{}",
        "ImageJ=1.5\nimages=-3\nchannels=x",
    ],
)
def test_files_that_tell_nothing(text):
    found = read_description(text, 1, lambda: None)
    assert math.isnan(found.um_per_px)
    assert found.images == 1
    assert all(num == 1 for _, num in found.axes)
