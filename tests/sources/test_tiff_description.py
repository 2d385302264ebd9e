"""Pixel size, axes and number of images, as OME and ImageJ write them."""

import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fastcell.dataset.tiff import walk_pages
from fastcell.sources.tiff_description import Description, read_description


def described(path: Path) -> Description:
    return read_description(next(iter(walk_pages(str(path)))))


@pytest.mark.parametrize(("unit", "size", "expected"), [("µm", 0.25, 0.25), ("nm", 320.0, 0.32), ("mm", 2e-4, 0.2)])
def test_ome(tmp_path: Path, unit: str, size: float, expected: float) -> None:
    metadata = {"axes": "TCYX", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 2, 8, 9), np.uint8), metadata=metadata)
    found = described(tmp_path / "a.ome.tif")
    assert found.um_per_px == pytest.approx(expected)
    assert {letter: num for letter, num in found.axes if num > 1} == {"T": 3, "C": 2}
    assert found.images == 1


def test_imagej(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((4, 2, 8, 9), np.uint16),
        imagej=True,
        resolution=(5.0, 5.0),
        metadata={"axes": "TCYX", "unit": "um"},
    )
    found = described(tmp_path / "a.tif")
    assert found.um_per_px == pytest.approx(0.2)
    assert found.axes == (("C", 2), ("Z", 1), ("T", 4))
    assert found.images == 8


def test_files_that_tell_nothing(tmp_path: Path) -> None:
    for name, text in (("none", None), ("other", "a text"), ("damaged", "<OME><Pixels PhysicalSizeX='x")):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((8, 9), np.uint8), description=text, metadata=None)
        found = described(tmp_path / f"{name}.tif")
        assert math.isnan(found.um_per_px)
        assert (found.images, found.axes) == (1, ())
