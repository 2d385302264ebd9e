"""Baselines get the pixels that the engine gives networks."""

import shutil

import numpy as np
import pytest

from fastcell.compare.image_array import fingerprint, frame_pixels, make_images
from fastcell.errors import ArgumentError
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.preprocessing import Preprocessing


def test_the_same_pixels_as_a_networks_batches(planted, tmp_path):
    manifest = planted()
    preprocessing = Preprocessing(image_size=16, normalization="standardize")
    rows = np.arange(1, 120, 2)
    images = make_images(manifest, rows, preprocessing, tmp_path)
    module = CellDataModule(str(manifest.path), image_size=16, normalization="standardize")
    module.setup("predict")
    for batch in module.predict_dataloader():
        for cell, image in zip(batch.cell_ids.tolist(), batch.images[:, 0].numpy(), strict=True):
            if cell in rows:
                np.testing.assert_array_equal(images.open()[images.places(np.array([cell]))[0]], image)
    assert images.open().shape == (60, 16, 16)
    assert len(images.corrupt_rows()) == 0


def test_made_once(planted, tmp_path):
    manifest, preprocessing = planted(), Preprocessing(image_size=16)
    first = make_images(manifest, np.arange(120), preprocessing, tmp_path)
    before = first.path.stat().st_mtime_ns
    assert make_images(manifest, np.arange(120), preprocessing, tmp_path).path.stat().st_mtime_ns == before
    assert make_images(manifest, np.arange(119), preprocessing, tmp_path).path != first.path
    assert make_images(manifest, np.arange(120), Preprocessing(image_size=8), tmp_path).path != first.path


def test_lost_cells_are_told(planted, tmp_path):
    manifest = planted()
    shard = manifest.shard_path(0)
    data = bytearray(shard.read_bytes())
    data[int(manifest.column("offset")[7]) + 130] ^= 255
    shard.write_bytes(data)
    images = make_images(manifest, np.arange(120), Preprocessing(image_size=16), tmp_path)
    assert images.corrupt_rows().tolist() == [7]


def test_damaged_images_and_repaired_cells_are_made_anew(planted, tmp_path):
    manifest, preprocessing = planted(), Preprocessing(image_size=16)
    shard, rows = manifest.shard_path(0), np.arange(120)
    whole = shard.read_bytes()
    hurt = bytearray(whole)
    hurt[int(manifest.column("offset")[7]) + 130] ^= 255
    shard.write_bytes(hurt)
    images = make_images(manifest, rows, preprocessing, tmp_path)
    written = images.path.stat().st_mtime_ns
    assert make_images(manifest, rows, preprocessing, tmp_path).path.stat().st_mtime_ns == written
    shard.write_bytes(whole)
    images = make_images(manifest, rows, preprocessing, tmp_path)
    assert len(images.corrupt_rows()) == 0
    right = images.path.read_bytes()
    for damaged in (right[:-8], right[:9000] + bytes(4096) + right[13096:]):
        images.path.write_bytes(damaged)
        assert make_images(manifest, rows, preprocessing, tmp_path).path.read_bytes() == right


def test_a_full_disk_is_told_before_it_is_full(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ArgumentError, match=r"--out must be on a disk with 0\.0 GB free for 120 images of 16 x 16"):
        make_images(planted(), np.arange(120), Preprocessing(image_size=16), tmp_path)


def test_the_fingerprint_is_of_cells_classes_and_groups(planted):
    manifest = planted(num=60)
    rows = np.arange(30)
    assert fingerprint(manifest, rows) == fingerprint(manifest, rows)
    assert fingerprint(manifest, rows) != fingerprint(manifest, rows + 1)
    assert fingerprint(manifest, rows) != fingerprint(planted(num=60, groups=3, folder="other"), rows)


def test_the_frame_is_the_outside():
    images = np.zeros((1, 32, 32), np.float32)
    images[:, 2:-2, 2:-2] = 1
    assert frame_pixels(images).shape == (1, 32 * 32 - 28 * 28)
    assert frame_pixels(images).max() == 0
    assert frame_pixels(np.ones((2, 64, 64), np.float32)).shape == (2, 64 * 64 - 56 * 56)
