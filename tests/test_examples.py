"""The programs of examples/ that use an exported file: their answers against those of fastcell."""

from __future__ import annotations

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
def place(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
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
def expected(trained_run: Path, place: Path) -> np.ndarray:
    """Probabilities of the images, by fastcell."""
    return fastcell.load(trained_run).predict_proba([place / "images" / f"{n}.png" for n in range(len(SIZES))])


def test_python_on_a_folder(place: Path, expected: np.ndarray, trained_run: Path) -> None:
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
def test_cpp_is_compiled_and_answers_as_fastcell(place: Path, expected: np.ndarray, tmp_path: Path) -> None:
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
