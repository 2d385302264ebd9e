"""Loops that are compiled at set-up: the first commands compile none of their own, and say so where they do."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

LINE = "compiling code for this processor; this takes some seconds, once"


@pytest.mark.slow
def test_commands_after_it_compile_nothing(trained_run, trained_data, tmp_path):
    """And a command before it says in one line that it compiles."""
    cells = tmp_path / "cells"
    cells.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(cells / f"{number}.png")
    commands = {
        "packed": ["predict", str(trained_run), str(trained_data), "--out", str(tmp_path / "p.csv")],
        "files": ["predict", str(trained_run), str(cells), "--out", str(tmp_path / "f.csv")],
        "fit": ["fit", str(trained_data), "--trainer.max_epochs=1", "--runs", str(tmp_path / "runs"), "--preset=demo"],
    }

    def said(words, cache):
        done = subprocess.run(words, env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr

    fastcell, ahead = [sys.executable, "-m", "fastcell"], "from fastcell.inference import compile_ahead as one"
    assert said([*fastcell, *commands["packed"]], tmp_path / "empty").splitlines().count(LINE) == 1
    assert said([sys.executable, "-c", f"{ahead}; one.compile_loops()"], tmp_path / "cache") == ""
    for words in commands.values():
        assert LINE not in said([*fastcell, *words], tmp_path / "cache")
