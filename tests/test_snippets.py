"""The Python of README.md and docs/ runs, block by block, on small data."""

import doctest
import importlib
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import fastcell
from fastcell.inference.sharing.share import share

REPO_DIR = Path(__file__).resolve().parent.parent
PAGES = [REPO_DIR / "README.md", *sorted((REPO_DIR / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page):
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def workplace(trained_data, trained_run, tmp_path, monkeypatch):
    """Names that the pages use, in a folder with the data that they name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells").symlink_to(trained_data)
    rng = np.random.default_rng(0)
    names = np.array(["plain", "spot"] * 20)
    images = rng.integers(90, 110, (40, 16, 20)).astype(np.uint8)
    images[1::2, 4:10, 4:10] += 120
    (tmp_path / "new_images").mkdir()
    for number, image in enumerate(images[:3]):
        cv2.imwrite(str(tmp_path / "new_images" / f"{number}.png"), image)
    share(trained_run, tmp_path / "donors-model", num_cells=5)
    donors = np.arange(40) // 2 % 5
    return {"run": trained_run, "images": images, "names": names, "others": images[:5], "donors": donors}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_blocks_run_in_their_order(page, workplace):
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page.name}, block {number}", "exec"), workplace)


def test_pages_have_python():
    assert {page.name for page in PAGES if blocks(page)} >= {
        "README.md",
        "python.md",
        "from-dataloader.md",
        "scikit-learn.md",
    }


@pytest.mark.parametrize("name", sorted(set(fastcell._EXPORTS.values())))
def test_examples_in_docstrings(name):
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_public_names_have_examples():
    finder = doctest.DocTestFinder()
    public = [getattr(fastcell, name) for name in ("ClassifiedCells", "Preprocessing", "Augmentation", "ViewConfig")]
    for kind in public:
        assert any(test.examples for test in finder.find(kind)), kind


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((REPO_DIR / "examples").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_run(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("PYTHONPATH", str(REPO_DIR))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("text/html" in output.get("data", {}) for output in outputs)
    assert [output for output in outputs if output.output_type == "error"] == []
