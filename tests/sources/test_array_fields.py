"""Which array holds the images, and what the others say of each image."""

import numpy as np
import pytest

from fastcell.errors import ArgumentError, DataError
from fastcell.sources.array_fields import name_labels, pick_images, read_fields, read_label_file
from fastcell.sources.arrays import Arrays
from fastcell.sources.registry import ReadOptions, open_source

scipy_io = pytest.importorskip("scipy.io")
NUM = 50
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (NUM, 7, 11)).astype(np.uint8)
LABELS = RNG.integers(-1, 3, NUM)
AREA = RNG.random(NUM)


def test_labels_of_a_file(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS)
    (tmp_path / "l.csv").write_text("group,label\n" + "".join(f"g{i % 5},c{i % 2}\n" for i in range(NUM)))
    listing = open_source(tmp_path / "a.npy", options=ReadOptions(labels=tmp_path / "l.csv")).scan()
    assert [(item.class_name, item.group) for item in listing.items[:3]] == [("c0", "g0"), ("c1", "g1"), ("c0", "g2")]
    (tmp_path / "l.txt").write_text("one\n\ntwo\n")
    with pytest.raises(DataError, match="one label for each of the 50 cells, got 2"):
        open_source(tmp_path / "a.npy", options=ReadOptions(labels=tmp_path / "l.txt")).scan()
    with pytest.raises(DataError, match="got no file"):
        open_source(tmp_path / "a.npy", options=ReadOptions(labels=tmp_path / "no.txt")).scan()
    np.save(tmp_path / "b.npy", PIXELS)
    with pytest.raises(ArgumentError, match="--labels must be given for one file of images, got '2 files'"):
        Arrays(tmp_path, labels=tmp_path / "l.csv", endings=(".npy",)).scan()


def scan(path):
    return open_source(path, options=ReadOptions(format="arrays")).scan()


def refused(path, match):
    with pytest.raises(DataError, match=match):
        scan(path)


def test_labels_that_cannot_be(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=PIXELS, labels=LABELS[:9])
    refused(path, r"labels must hold one value for each of the 50 images, got \(9,\)")
    np.savez(path, images=PIXELS, labels=LABELS, classes=np.array(["x"]))
    refused(path, "classes must name every label, got 1 names for a label 2")
    np.savez(path, images=PIXELS, labels=AREA)
    refused(path, "labels must be whole numbers or names")
    np.savez(path, images=PIXELS, labels=LABELS, classes=np.array(["x", "x", "z"]))
    refused(path, "class names must be different")


def test_arrays_that_are_no_images(tmp_path):
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
    refused(tmp_path / "none.npz", "no usable cell: no image in none.npz")


class Named:
    """Arrays in memory as a file of named arrays."""

    path = "a.file"

    def __init__(self, **arrays):
        self.arrays = arrays

    def shapes(self):
        return {name: array.shape for name, array in self.arrays.items()}

    def stack(self, name):
        raise AssertionError(name)

    def values(self, name, num):
        array = self.arrays[name]
        return array.reshape(num) if array.shape in ((num,), (num, 1)) else None


@pytest.mark.parametrize(
    ("arrays", "name"),
    [
        ({"other": PIXELS, "images": PIXELS}, "images"),
        ({"X": PIXELS, "x": PIXELS, "data": PIXELS}, "X"),
        ({"whatever": PIXELS, "labels": LABELS}, "whatever"),
        ({"images": LABELS, "cells": PIXELS[..., None]}, "cells"),
    ],
)
def test_the_images_are_found_by_name_or_by_their_axes(arrays, name):
    assert pick_images(Named(**arrays)) == name


def test_what_the_other_arrays_say():
    groups = np.array(["d1", "d2"] * 25, object)
    file = Named(
        images=PIXELS, y=np.arange(NUM)[:, None] % 3 - 1, class_names=np.array(["x", "yy"], object), donor=groups,
        collection=np.full(NUM, 7.0), area=AREA, deep=AREA[:, None], table=np.zeros((NUM, 2)), short=AREA[:9],
    )  # fmt: skip
    fields = read_fields(file, "images", NUM)
    assert fields.labels[:4] == [None, "x", "yy", None]
    assert fields.classes == ["x", "yy"]
    assert fields.groups[:2] == ["d1", "d2"]
    assert fields.collections[0] == "7"
    assert fields.features == ["area", "deep"]
    bare = read_fields(Named(images=PIXELS, classes=np.array(["x"], object)), "images", NUM)
    assert (bare.labels, bare.classes, bare.groups, bare.collections, bare.features) == (None, None, None, None, [])


@pytest.mark.parametrize(
    ("labels", "classes", "names"),
    [
        (np.array([1, -1, 0]), ["a", "b"], ["b", None, "a"]),
        (np.array([1, -1, 10]), None, ["1", None, "10"]),
        (np.array([0.0, np.nan, 2.0]), None, ["0", None, "2"]),
        (np.array([True, False]), None, ["1", "0"]),
        (np.array([b"A", "B ", ""], object), None, ["A", "B", None]),
        (np.array([], int), ["a"], []),
    ],
)
def test_labels_become_names(labels, classes, names):
    assert name_labels(labels, classes, "a.file") == names


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 2]), r"a\.file: classes must name every label, got 2 names for a label 2"),
        (np.array([0.5]), r"labels must be whole numbers or names, got 0\.5"),
        (np.array([1e300]), "labels must be whole numbers or names"),
    ],
)
def test_labels_without_a_name(labels, message):
    with pytest.raises(DataError, match=message):
        name_labels(labels, ["a", "b"], "a.file")


@pytest.mark.parametrize(
    ("text", "labels", "groups"),
    [
        ("one\n\ntwo\n", ["one", "two"], None),
        ("\ufeffLabel,Donor\na,d1\nb,\n", ["a", "b"], ["d1", None]),
        ('class\n"a,b"\n \n', ["a,b", None], None),
        ("a\n\n", ["a", None], None),
        ("sep=;\r\nlabel;group\r\n1,0;x\r\n2.0;\r\n", ["1", "2"], ["x", None]),
    ],
)
def test_lists_of_labels(tmp_path, text, labels, groups):
    path = tmp_path / "l.csv"
    path.write_text(text, encoding="utf-8")
    fields = read_label_file(path, 2, lambda path, num: None)
    assert (fields.labels, fields.groups) == (labels, groups)


def test_lists_that_cannot_be_read(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"\xf6\n")
    with pytest.raises(DataError, match="must be UTF-8 text, got byte 0xf6 in line 1"):
        read_label_file(tmp_path / "l.txt", 2, lambda path, num: None)
    (tmp_path / "l.csv").write_text("0,A\n1,B\n")
    with pytest.raises(DataError, match="must have one column, or a header with a column label, got .*'0, A'"):
        read_label_file(tmp_path / "l.csv", 2, lambda path, num: None)
    (tmp_path / "l.npy").write_bytes(b"")
    assert read_label_file(tmp_path / "l.npy", 2, lambda path, num: np.arange(num)).labels == ["0", "1"]
    with pytest.raises(DataError, match="must hold one label for each of the 2 cells"):
        read_label_file(tmp_path / "l.npy", 2, lambda path, num: None)
