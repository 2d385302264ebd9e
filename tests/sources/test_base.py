"""Stamps of files and kinds of images by their names."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path

import pytest

from fastcell.sources.base import SourceItem, encoding_of, file_stamp


def test_a_stamp_changes_with_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 1_000_000_007))
    assert file_stamp(str(path)) == "5 1000000007"
    os.utime(path, ns=(0, 1_000_000_008))
    assert file_stamp(str(path)) == "5 1000000008"
    assert file_stamp(str(tmp_path / "none")) == "No such file or directory"


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("a.jpg", "jpg"), ("a.JPEG", "jpg"), ("b/a.Png", "png"), ("a.tif", "tif"), ("a.b.tiff", "tif"),
        ("a.npy", "npy"), ("a.gif", ""), ("jpg", ""), ("a.", ""), ("", ""),
    ],
)  # fmt: skip
def test_kind_of_image_by_the_ending(name: str, encoding: str) -> None:
    assert encoding_of(name) == encoding


def test_an_item_tells_nothing_unless_told_and_can_be_sent_to_a_worker() -> None:
    item = SourceItem("a/000001", "raw")
    assert (item.class_name, item.group, item.collection, item.place) == (None, None, None, ())
    assert math.isnan(item.um_per_px)
    full = SourceItem("a", "png", "A", "g", "c", 0.5, ("/a", 3))
    assert pickle.loads(pickle.dumps(full)) == full
