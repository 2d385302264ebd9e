"""Every command line that README.md and docs/ show runs, page by page, in a folder with the files that pages name."""

import importlib.util
import io
import re
import shutil
import tarfile

import cv2
import numpy as np
import pytest
from fixtures.process_state import same_process_state
from test_manual import DOCS_DIR, PAGES, REPO_DIR, commands, name_of

from fastcell.cli.main import main
from fastcell.dataset.manifest import Manifest

CHEAP = {"docs/guides/corrupt-cells.md", "docs/guides/counts.md"}
"""Pages whose commands take seconds together."""
ELSEWHERE = {
    "docs/benchmarks/accuracy.md": "commands on real cells, which the programs there need",
    "docs/guides/anywhere.md": "addresses of servers, tests/remote",
    "docs/tutorial.md": "tests/test_tutorial.py",
}
"""Pages whose commands are not run here, and where or why."""
NOT_RUN = {
    "test": "the tests themselves",
    "docs": "tests/test_site.py",
    "serve": "a server, tests/cli/test_serve.py",
    "watch": "runs until it is stopped, tests/cli/test_watch.py",
    "review cells": "a server, tests/cli/test_review.py",
    "fit cells --trainer.devices 4": "needs 4 GPUs",
    "fit cells --trainer.num_nodes": "needs several machines",
    "fit cells --trainer.accelerator cpu --trainer.strategy ddp": "tests/loading/test_two_processes.py",
    **dict.fromkeys(
        [f"{name} --backend dask" for name in ("pack images cells", "verify cells", "qc cells")]
        + ["predict runs/RUN cells --out predictions.parquet --backend openvino --engine dask"],
        "needs the workers of a cluster, tests/system/test_engines.py",
    ),
    "fit cells --model.network resnet18": "needs timm and weights of other people",
    "fit cells --trainer.logger TensorBoardLogger": "needs TensorBoard",
    "convert predictions.parquet scores/": "needs IFCB bins, tests/predictions/test_to_ifcb.py",
    "convert predictions.parquet scored/": "needs RT-DC files, tests/predictions/test_to_rtdc.py",
    "distill": "times networks for a minute, tests/cli/test_distill.py",
}
"""Beginnings of commands that are not run here, and the reason or the test that runs them."""
SHORT = {
    "fit": ["--trainer.max_steps=2", "--trainer.max_epochs=-1", "--data.image_size=32", "--data.threads=1"],
    "compare": ["--min-steps=2", "--steps=2", "--jobs=1", "--folds=2"],
    "explain": ["--cells=3", "--seed=0"],
    "bench": ["--seconds=1", "--cells=50", "--threads=1"],
    "report": ["--cells=10", "--no-explain"],
    "audit": ["--cells=100"],
}
"""Options that shorten a command; those that the page gives itself stay."""
SHORTER = {
    "--seeds": "1",
    "--splits": "random",
    "--volumes": "1",
    "--sizes": "16",
    "--trainer.max_epochs": "1",
    "--jobs": "1",
}
"""Values in place of those of the page."""
DEPTHS = {"{group}/{class}/{name}": 3, "{group}/{name}": 2, "{class}/{name}": 2}


def pages():
    return [page for page in PAGES if any(commands(page)) and name_of(page) not in ELSEWHERE]


def runs_here(words):
    line = " ".join(words)
    return not any(line == start or line.startswith((f"{start} ", f"{start}_")) for start in NOT_RUN)


@pytest.fixture
def world(trained_data, trained_run, tmp_path, monkeypatch):
    """Function that fills the working folder with what a page names; it returns words that stand for others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(REPO_DIR / "examples"))

    def fill(page):
        lines = [" ".join(words) for words in commands(page)]
        run = tmp_path / "runs" / "20260131-142501-donors-cellnet"
        shutil.copytree(trained_run, run)
        if not any(re.match(r"pack \S+ cells", line) for line in lines):
            shutil.copytree(trained_data, tmp_path / "cells")
            manifest = Manifest.open(tmp_path / "cells")
            rows = [f"{number},{name}" for number, name in enumerate(manifest.column("group"))]
            (tmp_path / "donors.csv").write_text("\n".join(["cell_id,donor", *rows]) + "\n")
            verdicts = [f"{number},{'keep' if number % 2 else 'drop'}" for number in range(80)]
            (tmp_path / "looked_at.csv").write_text("\n".join(["cell_id,verdict", *verdicts]) + "\n")
        for name in ("images", "new_images"):
            found = re.search(rf"pack {name}/? \S+ --pattern (\S+)", "\n".join(lines))
            write_images(
                tmp_path / name, depth=found[1].count("/") + 1 if found else (1 if name == "new_images" else 2)
            )
        write_tar(tmp_path / "tars")
        packs_new = any(re.match(r"pack \S+ new\b", line) for line in lines)
        if any("new" in line.split() for line in lines) and not packs_new:
            assert main(["pack", "new_images", "new", "--pattern", "{name}", "--jobs=1"]) == 0
        if not any(line.startswith("predict") for line in lines):
            assert main(["predict", str(run), str(trained_data), "--out", "predictions.parquet"]) == 0
        if page.name == "report.md":
            words = ["compare", "cells", "--methods=knn", "--volumes=1", "--seeds=1", "--jobs=1", "--splits=default"]
            assert main([*words, "--out=comparison"]) == 0
        stand_ins = dict.fromkeys(("runs/<...>", "RUN", "runs/RUN", "runs/NAME", "runs/*"), str(run))
        return {**stand_ins, "DATA": "cells", "NEW_IMAGES": "new_images"}

    return fill


def write_images(folder, depth):
    """Write images at a depth of folders: groups, classes, names."""
    rng = np.random.default_rng(len(folder.name))
    for group in range(6 if depth > 1 else 1):
        for name in ("round", "budding") if depth > 2 else ("all",):
            place = folder.joinpath(*[f"g{group}", name][: depth - 1])
            place.mkdir(parents=True, exist_ok=True)
            for number in range(4):
                image = rng.integers(90, 110, (20 + number, 24)).astype(np.uint8)
                image[4 : 10 + group, 4:10] += 60 + 60 * (name == "round")
                cv2.imwrite(str(place / f"{number}.png"), image)


def write_tar(folder):
    """Write a tar of another program, with images and classes."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    with tarfile.open(folder / "a.tar", "w") as archive:
        for number in range(40):
            image = rng.integers(0, 255, (20, 24)).astype(np.uint8)
            parts = {"png": cv2.imencode(".png", image)[1].tobytes(), "cls": str(number % 2).encode()}
            for ending, content in parts.items():
                entry = tarfile.TarInfo(f"{number:04d}.{ending}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def shortened(words):
    if "--resume" in words:  # which takes no other settings than those of the run
        return words
    given = {word.split("=")[0] for word in words}
    kept = [SHORTER.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    return [*kept, *(option for option in SHORT.get(words[0], []) if option.split("=")[0] not in given)]


def run_page(page, stand_ins):
    for words in commands(page):
        if not runs_here(words):
            continue
        here = [stand_ins.get(word, word) for word in words]
        with same_process_state():
            assert main(shortened(here)) == 0, " ".join(here)


@pytest.mark.parametrize("page", [page for page in pages() if name_of(page) in CHEAP], ids=name_of)
def test_cheap_commands_run(page, world):
    run_page(page, world(page))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in pages() if name_of(page) not in CHEAP], ids=name_of)
def test_commands_run(page, world):
    if "openvino" in page.read_text(encoding="utf-8") and importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    run_page(page, world(page))


def test_exceptions_are_needed():
    lines = [" ".join(words) for page in PAGES for words in commands(page)]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []
    assert [name for name in (*CHEAP, *ELSEWHERE) if not any(commands(REPO_DIR / name))] == []
    assert (DOCS_DIR / "index.md").is_file()
