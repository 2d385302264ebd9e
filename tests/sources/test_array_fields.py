"""Which array holds the images, and what the others say of each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastcell.errors import ArgumentError, DataError
from fastcell.sources.arrays import Arrays
from fastcell.sources.base import Listing
from fastcell.sources.registry import ReadOptions, open_source

scipy_io = pytest.importorskip("scipy.io")


NUM = 50


RNG = np.random.default_rng(0)


PIXELS = RNG.integers(0, 256, (NUM, 7, 11)).astype(np.uint8)


LABELS = RNG.integers(-1, 3, NUM)


AREA = RNG.random(NUM)


def test_labels_of_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    (tmp_path / "l.csv").write_text("group,label\n" + "".join(f"g{i % 5},c{i % 2}\n" for i in range(NUM)))
    listing = open_source(tmp_path / "a.npy", options=ReadOptions(labels=tmp_path / "l.csv")).scan()
    assert [(item.class_name, item.group) for item in listing.items[:3]] == [("c0", "g0"), ("c1", "g1"), ("c0", "g2")]
    (tmp_path / "l.txt").write_text("one\n\ntwo\n")
    with pytest.raises(DataError, match="one label for each of the 50 cells, got 2"):
        open_source(tmp_path / "a.npy", options=ReadOptions(labels=tmp_path / "l.txt")).scan()
    with pytest.raises(DataError, match="got nothing there"):
        open_source(tmp_path / "a.npy", options=ReadOptions(labels=tmp_path / "no.txt")).scan()
    np.save(tmp_path / "b.npy", PIXELS)
    with pytest.raises(ArgumentError, match="--labels must be given for one file of images, got '2 files'"):
        Arrays(tmp_path, labels=tmp_path / "l.csv", endings=(".npy",)).scan()


def scan(path: Path) -> Listing:
    return open_source(path, options=ReadOptions(format="arrays")).scan()


def refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        scan(path)


def test_labels_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=PIXELS, labels=LABELS[:9])
    refused(path, r"labels must hold one value for each of the 50 images, got \(9,\)")
    np.savez(path, images=PIXELS, labels=LABELS, classes=np.array(["x"]))
    refused(path, "classes must name every label, got 1 names for a label 2")
    np.savez(path, images=PIXELS, labels=AREA)
    refused(path, "labels must be whole numbers or names")
    np.savez(path, images=PIXELS, labels=LABELS, classes=np.array(["x", "x", "z"]))
    refused(path, "class names must be different")


def test_arrays_that_are_no_images(tmp_path: Path) -> None:
    for name, array, match in [
        ("f", PIXELS.astype(np.float32), "must hold uint8 or uint16, got float32"),
        ("s", PIXELS.reshape(25, 2, 7, 11), r"must be \(N, H, W\), got \(25, 2, 7, 11\)"),
        ("o", np.asfortranarray(PIXELS), "Fortran order"),
        ("z", PIXELS[:, :0], "images of 1 to"),
    ]:
        np.savez(tmp_path / f"{name}.npz", images=array)
        refused(tmp_path / f"{name}.npz", match)
    np.savez(tmp_path / "two.npz", one=PIXELS, two=PIXELS)
    refused(tmp_path / "two.npz", r"must hold one array of images .* got one \(50, 7, 11\), two .*Name it images")
    np.savez(tmp_path / "short.npz", x=PIXELS[0, 0])
    refused(tmp_path / "short.npz", r"got x \(11,\)\. Put it at the top level")
    np.save(tmp_path / "one.npy", PIXELS[0])
    refused(tmp_path / "one.npy", r"got images \(7, 11\)\. Save it with three axes")
    scipy_io.savemat(tmp_path / "d.mat", {"images": PIXELS.transpose(1, 2, 0).astype(float)})
    refused(tmp_path / "d.mat", "H x W x N of class uint8 or uint16, got 7 x 11 x 50 of float64")
    np.savez(tmp_path / "none.npz", images=PIXELS[:0])
    refused(tmp_path / "none.npz", "no usable cell, for no image is in none.npz")
