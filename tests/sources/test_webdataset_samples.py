"""Which member of a foreign tar is image and label, and what labels mean."""

import io
import math
import os
import tarfile
from collections import Counter

import pytest

from fastcell.errors import ArgumentError, DataError
from fastcell.sources.webdataset_samples import (
    Facts,
    find_tars,
    list_samples,
    name_classes,
    read_class_file,
    read_facts,
)


def listed(path, names):
    with tarfile.open(path, "w") as file:
        for name in names:
            file.addfile(tarfile.TarInfo(name), io.BytesIO())
    samples, others = list_samples(path)
    return [tuple(member and member.name for member in sample) for sample in samples], others


@pytest.mark.parametrize(
    ("names", "samples", "others"),
    [
        (["a.jpg", "a.cls", "b.cls", "b.jpg"], [("a.jpg", "a.cls", None), ("b.jpg", "b.cls", None)], {}),
        (["a.jpg", "b.jpg", "a.json", "b.cls"], [("a.jpg", None, "a.json"), ("b.jpg", "b.cls", None)], {}),
        (["G1/a.JPG", "G1/a.CLS", "G2/a.Tiff"], [("G1/a.JPG", "G1/a.CLS", None), ("G2/a.Tiff", None, None)], {}),
        (["a.png", "a.jpg", "a.npy", "a.txt"], [("a.jpg", None, None)], {"png": 1, "npy": 1, "txt": 1}),
        (["a.cls", "b.txt"], [], {"": 2}),
        (["._a.jpg", "a.jpg", ".DS_Store"], [("a.jpg", None, None)], {}),
        (["d.1/a.png", "d.1/a.cls"], [("d.1/a.png", "d.1/a.cls", None)], {}),
        (
            ["a.01.jpg", "a.01.cls", "a.02.jpg", "a.cls"],
            [("a.01.jpg", "a.01.cls", None), ("a.02.jpg", "a.cls", None)],
            {},
        ),
        (
            ["a.jpg", "a.cls", "a.jpg", "a.cls", "a.jpg"],
            [("a.jpg", "a.cls", None), ("a.jpg", "a.cls", None), ("a.jpg", None, None)],
            {},
        ),
        (["a.jpg", "a.seg.png"], [("a.jpg", None, None)], {"seg.png": 1}),
    ],
)
def test_members_become_samples(tmp_path, names, samples, others):
    assert listed(tmp_path / "a.tar", names) == (samples, Counter(others))


@pytest.mark.parametrize(
    ("cls", "described", "expected"),
    [
        (None, None, Facts()),
        (b"3", None, Facts("3")),
        (b" MCF7\n", None, Facts("MCF7")),
        (b"-1", None, Facts(None)),
        (b"", None, Facts(None, readable=False)),
        (b"\xff\xfe", None, Facts(None, readable=False)),
        (None, b'{"label": 2, "donor": 7}', Facts("2", "7")),
        (None, b'{"label": 2.0}', Facts("2")),
        (None, b'{"label": 2, "class_name": "G1"}', Facts("G1")),
        (None, b'{"class": "G1", "run": "r", "collection": "c", "um_per_px": 0.5}', Facts("G1", "r", "c", 0.5)),
        (None, b'{"group": "g", "um_per_px": -1}', Facts(None, "g")),
        (b"5", b'{"label": 2, "donor": "d"}', Facts("5", "d")),
        (None, b"4", Facts("4")),
        (None, b'"THP1"', Facts("THP1")),
        (None, b"{not json", Facts(None, readable=False)),
        (None, b'{"label": [0, 1]}', Facts(None, readable=False)),
        (None, b'{"label": true}', Facts(None, readable=False)),
        (None, b'{"label": NaN}', Facts(None, readable=False)),
        (None, b"[" * 100_000, Facts(None, readable=False)),
    ],
)
def test_what_label_files_say(cls, described, expected):
    facts = read_facts(cls, described)
    assert facts[:3] == expected[:3]
    assert facts.readable == expected.readable
    assert facts.um_per_px == expected.um_per_px or (math.isnan(facts.um_per_px) and math.isnan(expected.um_per_px))


@pytest.mark.parametrize(
    ("labels", "names", "classes", "name_of"),
    [
        (["10", "2", "02"], None, ["2", "10"], {"10": "10", "2": "2", "02": "2"}),
        (["b10", "b9", "a"], None, ["a", "b9", "b10"], {"b10": "b10", "b9": "b9", "a": "a"}),
        (["1", "0"], ["x", "y", "z"], ["x", "y", "z"], {"1": "y", "0": "x"}),
        (["y"], ["x", "y"], ["x", "y"], {"y": "y"}),
        (["1", "G1"], None, ["1", "G1"], {"1": "1", "G1": "G1"}),
        ([], None, [], {}),
        ([], ["x"], ["x"], {}),
    ],
)
def test_classes_of_labels(labels, names, classes, name_of):
    assert name_classes(labels, names) == (classes, name_of)


def test_labels_beyond_the_names():
    with pytest.raises(DataError, match="must name every class, got 2 names for a class number 2"):
        name_classes(["0", "2"], ["x", "y"])
    with pytest.raises(DataError, match="got none for label 'z'"):
        name_classes(["x", "z"], ["x", "y"])


def test_class_file(tmp_path):
    assert read_class_file(tmp_path) is None
    (tmp_path / "labels.txt").write_text("\ufeffTHP1\r\nMCF 7\r\n\r\n", encoding="utf-8")
    assert read_class_file(tmp_path) == ["THP1", "MCF 7"]
    for text, error, message in (("", DataError, "one class name per line"), ("a\nb\na", ArgumentError, "got 'a'")):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(error, match=message):
            read_class_file(tmp_path)
    (tmp_path / "classes.txt").write_bytes(b"\xf6\n")
    with pytest.raises(DataError, match="must be UTF-8 text"):
        read_class_file(tmp_path)


@pytest.mark.parametrize(
    ("cls", "described", "facts"),
    [
        (b"9" * 5_000, None, Facts(readable=False)),  # more digits than int() takes
        (b"x" * 257, None, Facts(readable=False)),
        (None, b'{"class": ' + b"9" * 400 + b"}", Facts(readable=False)),  # beyond any float
        (None, b'{"class": "a", "um_per_px": ' + b"9" * 400 + b"}", Facts("a")),
        (None, b'{"class": "a", "um_per_px": 1e-300}', Facts("a")),  # 0 in 32 bits
        (None, b'{"class": "a", "um_per_px": true}', Facts("a")),
        (None, b"[" * 100_000, Facts(readable=False)),
    ],
)
def test_labels_that_are_none(cls, described, facts):
    assert repr(read_facts(cls, described)) == repr(facts)  # NaN is not equal to itself


def test_a_pipe_is_no_tar(tmp_path):
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(DataError, match="must hold WebDataset tars, got none"):
        find_tars(tmp_path)
