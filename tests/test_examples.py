"""The programs of examples/: they run, and answers from an exported file are those of fastcell."""

import csv
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import fastcell
from fastcell.inference.onnx.export import export

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SIZES = [(20, 31), (20, 31), (40, 18), (20, 31), (1, 1), (64, 64)]


@pytest.fixture(scope="module")
def place(trained_run, tmp_path_factory):
    """Folder with an exported model and a folder of images of several sizes as PNG and as PGM."""
    folder = tmp_path_factory.mktemp("examples")
    export(trained_run, folder / "cells.onnx", num_cells=10)
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        cell = rng.integers(0, 256, size).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), cell)
        (folder / f"{number}.pgm").write_bytes(b"P5\n%d %d\n255\n" % size[::-1] + cell.tobytes())
    return folder


@pytest.fixture(scope="module")
def expected(trained_run, place):
    """Probabilities of the images, by fastcell."""
    return fastcell.load(trained_run).predict_proba([place / "images" / f"{n}.png" for n in range(len(SIZES))])


def test_python_on_a_folder(place, expected, trained_run):
    program = [sys.executable, EXAMPLES / "classify_onnx.py", place / "cells.onnx", place / "images"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=True)
    header, *rows = csv.reader(done.stdout.splitlines())
    classes = fastcell.load(trained_run).classes
    assert header == ["key", "class", *(f"p_{name}" for name in classes)]
    assert [row[0] for row in rows] == [f"{number}.png" for number in range(len(SIZES))]
    np.testing.assert_allclose(np.array([row[2:] for row in rows], np.float64), expected, atol=1e-5)
    assert [row[1] for row in rows] == [classes[number] for number in expected.argmax(axis=1)]
    assert "fastcell" not in (EXAMPLES / "classify_onnx.py").read_text().partition('"""\n\n')[2]  # it needs none


@pytest.mark.slow
def test_cpp_is_compiled_and_answers_as_fastcell(place, expected, tmp_path):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler: install g++")
    found = importlib.util.find_spec("openvino")
    if found is None or found.origin is None:
        pytest.skip("OpenVINO is not installed, whose package has the headers")
    package = Path(found.origin).parent
    (library,) = (package / "libs").glob("libopenvino.so.*")
    program = tmp_path / "classify_onnx"
    source = EXAMPLES / "classify_onnx.cpp"
    words = [compiler, "-std=c++17", "-O0", "-Wall", "-Wextra", source, f"-isystem{package / 'include'}", "-o", program]
    linked = [library, f"-Wl,-rpath,{package / 'libs'}"]
    done = subprocess.run([*words, *linked], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    cells = [str(place / f"{number}.pgm") for number in range(len(SIZES))]
    done = subprocess.run(
        [program, place / "cells.onnx", *cells], capture_output=True, text=True, timeout=120, check=True
    )
    rows = [line.split(" ") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == cells
    np.testing.assert_allclose(np.array([row[2:] for row in rows], np.float64), expected, atol=1e-5)
    assert [int(row[1]) for row in rows] == expected.argmax(axis=1).tolist()
    (tmp_path / "bad.pgm").write_bytes(b"P5\n9 9\n255\nshort")
    done = subprocess.run(
        [program, place / "cells.onnx", tmp_path / "bad.pgm"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (1, f"classify_onnx: {tmp_path / 'bad.pgm'} ends early\n")


def example(name):
    """Return a program of examples/ as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder_of_groups(tmp_path_factory):
    """Folder GROUP/CLASS/*.png of three groups and two classes that differ in a bright spot."""
    folder = tmp_path_factory.mktemp("groups")
    rng = np.random.default_rng(0)
    for group in ("donor_1", "donor_2", "donor_3"):
        for name in ("plain", "spot"):
            (folder / group / name).mkdir(parents=True)
            for number in range(8):
                image = rng.integers(90, 110, (16 + number, 20)).astype(np.uint8)
                if name == "spot":
                    image[4:10, 4:10] += 120
                cv2.imwrite(str(folder / group / name / f"{number}.png"), image)
    return folder


def test_every_example_is_listed():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name != "README.md"]
    assert [name for name in files if f"]({name})" not in text] == []


def test_a_plain_loop_trains_and_scores(trained_data):
    data = fastcell.CellDataModule(str(trained_data), batch_size=32, image_size=16, threads=1)
    network, accuracy = example("plain_loop").train(data, epochs=1)
    cells = [batch.images for batch in data.val_dataloader()]
    assert sum(len(network(images)) for images in cells) == 30
    assert 0 <= accuracy <= 1
    assert abs(accuracy * 30 - round(accuracy * 30)) < 1e-4


@pytest.mark.slow
def test_the_loader_serves_a_lightning_project(trained_data):
    module = example("own_lightning_project")
    accuracy = module.train(str(trained_data), epochs=1, threads=1)
    assert abs(accuracy * 30 - round(accuracy * 30)) < 1e-4


@pytest.mark.slow
def test_a_folder_becomes_a_run_and_answers(folder_of_groups, tmp_path):
    settings = {"trainer.max_epochs": 1, "data.image_size": 16, "data.threads": 1}
    pattern = "{group}/{class}/{name}"
    new_images = str(folder_of_groups / "donor_1" / "spot")
    run = example("train_on_folder").train(str(folder_of_groups), new_images, pattern, tmp_path, **settings)
    assert (run / "metrics.json").is_file()
    rows = list(csv.DictReader((tmp_path / "answers.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert {row["class"] for row in rows} <= {"plain", "spot"}


@pytest.mark.slow
def test_methods_are_compared_by_groups(folder_of_groups):
    scores = example("cross_validate").compare(folder_of_groups, image_size=16, epochs=1, threads=1)
    assert {name: len(values) for name, values in scores.items()} == {"network": 3, "SVM": 3}
    assert all(0 <= value <= 1 for values in scores.values() for value in values)
