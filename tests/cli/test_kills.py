"""Commands that are killed at any moment: no process and no hidden file is left, and a rerun makes the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.process_state import same_process_state
from fixtures.processes import living_after

import fastcell
from fastcell.cli.main import main

TWO = "--trainer.accelerator=cpu --trainer.devices=2"
COMPARED = {
    "pack": "pack images out --shard-cells 20 --jobs 2",
    "pack of blocks": "pack images out --layout block --block-cells 8 --shard-cells 20 --jobs 2",
    "index": "index tars --jobs 2",
    "synth": "synth out --cells 300 --shard-cells 60 --jobs 2",
    "qc": "qc data --apply --jobs 1",
    "split": "split data --name x --no-near --jobs 2",
    "predict": "predict run data --out out.parquet",
    "predict, 2 ranks": f"predict run data --out out.parquet {TWO}",
    "watch": "watch run images --out out.parquet --until-idle 1 --poll 0.2",
    "convert": "convert p.parquet out.fcs --data data",
    "verify": "verify data --jobs 2 --list out.csv",
    "count": "count p.parquet run --out out.csv",
    "test": "test run data --out out.csv",
    "export": "export run out.onnx --check 10",
}
"""Commands whose results are the same bytes each time."""
TIMED = {
    "report": "report run --cells 10 --out out.html",
    "explain": "explain run --cells 3 --embed 50 --positions 4 --out out",
    "compare": "compare data --out out --methods svm,knn --volumes 1 --seeds 1 --splits default --jobs 2",
    "audit": "audit data --permutations 20 --jobs 1 --out out",
}
"""Commands whose results hold times: the same files, and the same tables without times."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, trained_run, trained_data):
    """Folder with what the commands read: ``data``, ``run``, ``images``, ``tars`` and ``p.parquet``."""
    root = tmp_path_factory.mktemp("kills") / "donors"
    shutil.copytree(trained_data, root / "data")
    shutil.copytree(trained_data, root / "tars", ignore=lambda _, names: [x for x in names if not x.endswith(".tar")])
    shutil.copytree(trained_run, root / "run")
    rng = np.random.default_rng(0)
    for number in range(120):
        path = root / "images" / f"c{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (300, 300)).astype(np.uint8))
    assert start("predict run data --out p.parquet", root).wait() == 0
    return root


def start(words, folder):
    environment = dict(os.environ, PYTHONPATH=str(Path(fastcell.__file__).parents[1]))
    environment["OPENBLAS_NUM_THREADS"] = "1"  # as the process of the tests has it: sums in the same order
    return subprocess.Popen(
        [sys.executable, "-m", "fastcell", *words.split()],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_kill(words, timed, seed, place, unbroken, folder):
    """Kill a command at a random moment, run it again, and compare with a folder in which it ran once."""
    killed = shutil.copytree(place, folder / place.name)
    whole, lasts_s = unbroken
    child = start(words, killed)
    try:
        time.sleep(random.Random(seed).uniform(0.2, 0.95) * lasts_s)
        child.kill()
        child.wait(30)
        assert living_after(child.pid, 20) == []
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    done = any((killed / folder / "dataset.json").exists() for folder in ("out", "tars"))  # a finished data set
    again = words + (" --force" if words.startswith("split") else "")
    # The first time as a user does; ranks are processes of this command line.
    run = run_here if seed and TWO not in words else run_process
    assert run(again, killed) == (2 if done else 0)
    left, wanted = snapshot(killed), snapshot(whole)
    assert [path for path in left if ".partial" in path] == []
    assert left.keys() == wanted.keys()
    assert [path for path in left if left[path] != wanted[path] and not (timed and may_differ(path))] == []


def run_process(words, folder):
    return start(words, folder).wait(400)


def run_here(words, folder):
    with same_process_state():
        os.chdir(folder)
        return main(words.split())


def may_differ(path):
    """Return whether a file of a command of `TIMED` holds times or figures."""
    if path == "out/accuracy.csv" or path.startswith("out/cells/"):  # of compare: times of fits and predictions
        return True
    return Path(path).suffix in (".html", ".json", ".png", ".svg", ".pdf", ".pkl", ".txt", ".md")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*COMPARED, *TIMED])
def test_killed_at_a_random_moment(name, place, tmp_path):
    """Three times, each in a folder of its own.

    All folders have the name of `place`, since the name of a data set is made from the path of its source.
    """
    words = {**COMPARED, **TIMED}[name]
    whole = shutil.copytree(place, tmp_path / "whole" / place.name)
    began = time.monotonic()
    assert run_process(words, whole) == 0
    lasts_s = time.monotonic() - began
    for seed in range(3):
        check_kill(words, name in TIMED, seed, place, (whole, lasts_s), tmp_path / str(seed))
