"""Commands that are killed at any moment: no process and no hidden file is left, and a rerun makes the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import fastcell

COMPARED = {
    "synth": "synth out --cells 300 --shard-cells 60 --jobs 2",
    "qc": "qc data --apply --jobs 1",
    "split": "split data --name x --no-near --jobs 2",
}
"""Commands whose results are the same bytes each time."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, trained_data: Path) -> Path:
    """Folder with the data set ``data``."""
    root = tmp_path_factory.mktemp("kills") / "origin"
    shutil.copytree(trained_data, root / "data")
    return root


def start(words: str, folder: Path) -> subprocess.Popen[bytes]:
    environment = dict(os.environ, PYTHONPATH=str(Path(fastcell.__file__).parents[1]))
    return subprocess.Popen(
        [sys.executable, "-m", "fastcell", *words.split()],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def session_of(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == leader and state not in "ZX":
                    found.append(int(entry.name))
    return found


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_kill(name: str, seed: int, place: Path, tmp_path: Path) -> None:
    words = COMPARED[name]
    whole, killed = shutil.copytree(place, tmp_path / "whole"), shutil.copytree(place, tmp_path / "killed")
    began = time.monotonic()
    assert start(words, whole).wait(200) == 0
    lasts_s = time.monotonic() - began
    child = start(words, killed)
    try:
        time.sleep(random.Random(seed).uniform(0.2, 0.95) * lasts_s)
        child.kill()
        child.wait(30)
        deadline = time.monotonic() + 20
        while session_of(child.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert session_of(child.pid) == []
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    done = (killed / "out").exists() and name == "synth"
    again = words + (" --force" if name == "split" else "")
    assert start(again, killed).wait(200) == (2 if done else 0)
    left = snapshot(killed)
    assert [path for path in left if ".partial" in path] == []
    assert left == snapshot(whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", COMPARED)
def test_killed_at_a_random_moment(name: str, seed: int, place: Path, tmp_path: Path) -> None:
    check_kill(name, seed, place, tmp_path)
