"""Cells as arrays, from every place that they may come from."""

import cv2
import numpy as np
import pytest

from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError, DataError
from fastcell.sources.load_cells import as_images, load_cells, to_levels


def test_packed_data(make_dataset, tagged):
    manifest = make_dataset(20)
    every = load_cells(manifest.path)
    assert len(every.images) == 20
    stored = read_cells(manifest, range(20))
    assert all(np.array_equal(image, cell) for image, cell in zip(every.images, stored, strict=True))
    assert every.classes.tolist() == manifest.column("class").tolist()
    test = load_cells(manifest.path, "test")
    assert test.keys == manifest.column("key")[16:].tolist()
    assert load_cells(make_dataset(4, name="plain", labelled=False).path).classes is None


def test_folders_of_images(tmp_path):
    for name in ("b/1.png", "a/2.png", "a/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((3, 4 + int(name[2])), 7, np.uint8))
    loaded = load_cells(tmp_path)
    assert loaded.keys == ["a/1.png", "a/2.png", "b/1.png"]
    assert loaded.classes.tolist() == ["a", "a", "b"]
    assert [image.shape for image in loaded.images] == [(3, 5), (3, 6), (3, 5)]
    flat = load_cells(tmp_path / "a")
    assert flat.classes is None
    assert len(flat.images) == 2
    paths = [tmp_path / "b" / "1.png", str(tmp_path / "a" / "2.png")]
    assert [image.shape for image in as_images(paths)] == [(3, 5), (3, 6)]


def test_deep_images_ask_for_a_window(tmp_path):
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), np.array([[0, 1000], [500, 2000]], np.uint16))
    with pytest.raises(ArgumentError, match="window must be given for 16-bit images"):
        as_images([path])
    assert as_images([path], (0, 1000))[0].tolist() == [[0, 255], [128, 255]]


def test_files_that_are_no_image(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="bad.png cannot be used as an image: not an image"):
        load_cells(tmp_path)
    with pytest.raises(DataError, match="gone.png cannot be read"):
        as_images([tmp_path / "gone.png"])
    with pytest.raises(ArgumentError, match="X must be a folder of images or of packed data"):
        load_cells(tmp_path / "gone")


def test_what_is_an_image_and_what_a_table():
    assert [image.shape for image in as_images(np.zeros((2, 3, 4)))] == [(3, 4)] * 2
    ragged = [np.zeros((2, 3), np.uint8), np.zeros((4, 1), np.uint8)]
    assert [image.shape for image in as_images(ragged)] == [(2, 3), (4, 1)]
    boxed = np.empty(2, object)
    boxed[:] = ragged
    assert [image.shape for image in as_images(boxed)] == [(2, 3), (4, 1)]
    assert as_images(np.zeros((2, 3))) is None
    assert as_images([[1, 2], [3, 4]]) is None
    with pytest.raises(ArgumentError, match=r"X must be grey, of the form \(N, H, W\)"):
        as_images(np.zeros((2, 3, 4, 3)))
    with pytest.raises(ArgumentError, match=r"X\[1\] must be a grey image .* got 'NaN or infinity'"):
        as_images([np.zeros((2, 2)), np.full((2, 2), np.nan)])


def test_levels():
    cell = np.array([[0, 255]], np.uint8)
    assert to_levels(cell, None) is cell
    assert to_levels(np.array([[0.0, 255.0]]), None).tolist() == [[0, 255]]
    deep = to_levels(np.array([[-2.0, -1.0, 0.0, 1.0, 9.0]]), (-1, 1))
    assert deep.dtype == np.uint16
    assert deep.tolist() == [[0, 0, 32768, 65535, 65535]]
    with pytest.raises(ArgumentError, match="grey levels 0..255, .* got 'values from 0.5 to 1.0'"):
        to_levels(np.array([[0.5, 1.0]]), None)


def test_damage_that_a_decoder_only_prints(tmp_path, capfd):
    whole = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (60, 90)).astype(np.uint8))[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    with pytest.raises(DataError, match="cut.jpg cannot be used as an image: damaged: Corrupt JPEG data"):
        load_cells(tmp_path)
    assert capfd.readouterr().err == ""
