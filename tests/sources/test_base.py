"""Stamps of files and kinds of images by their names."""

import math
import os
import pickle
import tarfile

import numpy as np
import pytest
from fixtures.written_bytes import tiff

from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError, BadCell
from fastcell.packing.pack import pack
from fastcell.sources.base import SourceItem, channel_words, check_channel, encoding_of, file_stamp, image_data
from fastcell.sources.registry import ReadOptions
from fastcell.splits.make_splits import SplitOptions


def test_a_stamp_changes_with_size_and_time(tmp_path):
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
def test_kind_of_image_by_the_ending(name, encoding):
    assert encoding_of(name) == encoding


def test_an_item_tells_nothing_unless_told_and_can_be_sent_to_a_worker():
    item = SourceItem("a/000001", "raw")
    assert (item.class_name, item.group, item.collection, item.place) == (None, None, None, ())
    assert math.isnan(item.um_per_px)
    full = SourceItem("a", "png", "A", "g", "c", 0.5, ("/a", 3))
    assert pickle.loads(pickle.dumps(full)) == full


PLANES = np.random.default_rng(0).integers(0, 65536, (3, 13, 17)).astype(np.uint16)
CHANNELS = tiff(PLANES, photometric="minisblack", planarconfig="separate")


def test_a_tiff_is_decoded_and_other_files_are_kept():
    np.testing.assert_array_equal(image_data(tiff(PLANES[0]), None, "a.tif"), PLANES[0])
    np.testing.assert_array_equal(image_data(CHANNELS, 2, "a.tif"), PLANES[2])
    assert image_data(b"\xff\xd8\xff", None, "a.jpg") == b"\xff\xd8\xff"
    with pytest.raises(BadCell, match="no tif, of which a channel could be chosen"):
        image_data(b"\xff\xd8\xff", 0, "a.jpg")
    with pytest.raises(BadCell, match="tif without a channel 3: it has 3, from 0"):
        image_data(CHANNELS, 3, "a.tif")
    with pytest.raises(
        ArgumentError, match=r"--channel must be the channel to read, 0 to 2, got None\. a/b\.tif has 3 channels"
    ):
        image_data(CHANNELS, None, "a/b.tif")


def test_a_channel_needs_a_tiff():
    images = [SourceItem("a.png", "png"), SourceItem("b.tif", "tif")]
    check_channel(None, images[:1])
    check_channel(1, images)
    with pytest.raises(ArgumentError, match=r"--channel must be given for TIFF \(the first image is a.png\), got 1"):
        check_channel(1, images[:1])
    assert (channel_words(None), channel_words(0), channel_words("DAPI")) == ("", ", channel 0", ", channel DAPI")


@pytest.mark.parametrize("kind", ["folder", "table", "lists", "tar"])
def test_the_channel_is_taken_in_every_container(tmp_path, kind):
    source = tmp_path / "in"
    for name in ("A/a.tif", "B/b.tif"):
        (source / name).parent.mkdir(parents=True)
        (source / name).write_bytes(CHANNELS)
    where = source
    if kind == "table":
        where = source / "cells.csv"
        where.write_text("path,label\nA/a.tif,A\nB/b.tif,B\n")
    elif kind == "lists":
        (source / "labels.txt").write_text("A 0\nB 1\n")
        (source / "Train.txt").write_text("A/a.tif 0\nB/b.tif 1\n")
    elif kind == "tar":
        where = tmp_path / "tars" / "a.tar"
        where.parent.mkdir()
        with tarfile.open(where, "w") as archive:
            archive.add(source / "A" / "a.tif", "a.tif")
            archive.add(source / "B" / "b.tif", "b.tif")
    with pytest.raises(ArgumentError, match="--channel must be the channel to read, 0 to 2, got None"):
        pack(where, tmp_path / "none", window=(0.0, 65535.0), jobs=1, split=SplitOptions(None))
    manifest = pack(
        where, tmp_path / "out", read=ReadOptions(channel=1), window=(0.0, 65535.0), jobs=1, split=SplitOptions(None)
    )
    cells = list(read_cells(manifest, range(2), depth=16))
    assert len(cells) == 2
    assert all((cell == PLANES[1]).all() for cell in cells)
