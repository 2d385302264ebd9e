"""A run as an object: the answers of ``fastcell predict``, from any thread and any process."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import fastcell
from fastcell.cli.predict import main as predict_main
from fastcell.errors import ArgumentError, FastcellError
from fastcell.inference.classifier import CHUNK, Classifier
from fastcell.loading.preprocessing import Preprocessing

TOLERANCE = 1e-6


@pytest.mark.parametrize("tta", [False, True])
def test_answers_are_those_of_the_command(trained_run, trained_data, cells, tmp_path, tta):
    out = tmp_path / "p.parquet"
    flags = ["--tta"] if tta else []
    assert predict_main([str(trained_run), str(trained_data), "--out", str(out), *flags, "--data.threads=1"]) == 0
    table = pq.read_table(out)
    expected = np.stack([table.column(f"p_{name}").to_numpy() for name in ("MB231", "MCF7", "PBMC", "THP1")], axis=1)
    found = fastcell.load(trained_run, tta=tta).predict(cells)
    np.testing.assert_allclose(found.probabilities, expected, atol=TOLERANCE, rtol=0)
    assert found.labels.tolist() == table.column("class").to_pylist()
    assert found.to_table().schema.equals(table.schema, check_metadata=True)


def test_an_answer_does_not_depend_on_the_other_cells(classifier, cells):
    many = cells + cells[: CHUNK - 100]
    every = classifier.predict_proba(many)
    assert every.shape == (len(many), 4)
    assert every.dtype == np.float32
    np.testing.assert_allclose(classifier.predict_proba(many[CHUNK - 1]), every[CHUNK - 1 : CHUNK], atol=TOLERANCE)
    np.testing.assert_allclose(every[200:], every[: len(many) - 200], atol=TOLERANCE)


def test_no_cells(classifier):
    found = classifier.predict([])
    assert len(found) == 0
    assert found.probabilities.shape == (0, 4)


def test_threads_get_equal_answers(classifier, cells):
    expected = classifier.predict_proba(cells[:40])
    found = [None] * 6

    def work(number):
        for _ in range(3):
            found[number] = classifier.predict_proba(cells[:40])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        np.testing.assert_array_equal(one, expected)


def test_a_call_starts_and_leaves_no_thread(classifier, cells):
    classifier.predict(cells)  # the pool of the transform is shared by the whole process
    before = threading.active_count()
    for _ in range(3):
        classifier.predict(cells[:3])
    assert threading.active_count() == before


class Fixed:
    """Backend whose logits are the mean and the first pixel of each image."""

    name, precision = "fixed", "fp32"

    def run(self, images):
        logits = np.stack([images.mean(axis=(1, 2, 3)), images[:, 0, 0, 0]], axis=1)
        return logits, logits


def test_a_backend_of_one_s_own_temperature_and_flips(trained_run, cells):
    assert fastcell.load(trained_run, backend=Fixed()).backend.name == "fixed"
    settings = Preprocessing(image_size=8, normalization="subtract")
    cell = np.arange(64, dtype=np.uint8).reshape(8, 8)
    corners = np.array([cell[0, 0], cell[-1, 0], cell[0, -1], cell[-1, -1]], np.float64) - 31.5

    def softmax(logit):
        return np.stack([1 / (1 + np.exp(logit)), 1 / (1 + np.exp(-logit))], axis=-1)

    plain = Classifier(Fixed(), ["a", "b"], settings, "cross_entropy")
    np.testing.assert_allclose(plain.predict_proba(cell)[0], softmax(corners[0]), atol=1e-5)
    flipped = Classifier(Fixed(), ["a", "b"], settings, "cross_entropy", tta=True)
    np.testing.assert_allclose(flipped.predict_proba(cell)[0], softmax(corners).mean(axis=0), atol=1e-5)
    cooled = Classifier(Fixed(), ["a", "b"], settings, "cross_entropy", temperature=4.0)
    np.testing.assert_allclose(cooled.predict_proba(cell)[0], softmax(corners[0] / 4), atol=1e-5)


def test_micrometres_and_windows_reach_the_cells():
    settings = Preprocessing(image_size=8, fit="scale", scale_um_per_px=0.5, normalization="subtract")
    rng = np.random.default_rng(0)
    cells = [rng.integers(0, 256, (20, 20)).astype(np.uint8) for _ in range(3)]
    one = Classifier(Fixed(), ["a", "b"], settings, "cross_entropy")
    apart = [one.predict_proba(cell, um_per_px=pitch)[0] for cell, pitch in zip(cells, (0.1, 0.5, 2.0), strict=True)]
    np.testing.assert_array_equal(one.predict_proba(cells, um_per_px=[0.1, 0.5, 2.0]), apart)
    with pytest.raises(ArgumentError, match="um_per_px must be one number, or one for each of the 3 cells"):
        one.predict(cells, um_per_px=[1.0, 2.0])
    deep = [cell.astype(np.uint16) * 10 + 7 for cell in cells]
    np.testing.assert_array_equal(one.predict_proba(deep, window=(7, 2557)), one.predict_proba(cells))
    with pytest.raises(ArgumentError, match=r"X\[0\] must be 8 bit"):
        one.predict(deep)


def test_paths_of_any_kind_and_what_is_none(classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (20, 31)).astype(np.uint8)
    cv2.imwrite("cell.png", image)
    (tmp_path / "empty").mkdir()
    expected = classifier.predict_proba(image)
    one = ("cell.png", Path("cell.png"), f"file://{tmp_path}/cell.png", ["cell.png"], (Path("cell.png"),))
    for files in (*one, np.array(["cell.png"]), np.array([Path("cell.png")], object)):
        np.testing.assert_allclose(classifier.predict_proba(files), expected, atol=1e-6)
    for files, message in (
        ("nowhere.png", "X must be arrays, or a path that exists, got 'nowhere.png'"),
        ("", "X must be arrays, or a path that exists, got ''"),
        (["cell.png", image], r"X\[1\] must be a path, as X\[0\] is one, got 'ndarray'"),
        ([Path("cell.png"), None], r"X\[1\] must be a path"),
        (["cell.png", ""], r"X\[1\] must be a path, as X\[0\] is one, got 'an empty path'"),
        ("empty", "must hold images"),
    ):
        with pytest.raises(FastcellError, match=message):
            classifier.predict(files)
    found = classifier.predict(["nowhere.png", "cell.png"])  # a reason for each file that cannot be used
    assert found.reasons[0].startswith("cannot be read")
    np.testing.assert_allclose(found.probabilities[1:], expected, atol=1e-6)


def test_large_and_thin_cells(classifier):
    expected = classifier.predict_proba(np.full((32, 32), 77, np.uint8))[0]
    shapes = ((1, 1), (1, 60_000), (70_000, 1), (9_000, 9_000))
    found = classifier.predict_proba([np.full(shape, 77, np.uint8) for shape in shapes])
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-6)
