"""The planted fault is in the set, and nothing else."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "planted.py"


def frames(folder, levels):
    """The set with that planted, and the mean grey level of each cell's outermost columns."""
    command = [sys.executable, str(PROGRAM), str(folder), "--cells", "60", "--background", str(levels), "--rare", "5"]
    subprocess.run(command, check=True, capture_output=True)
    manifest = Manifest.open(folder / "set")
    cells = read_cells(manifest, range(len(manifest)))
    return manifest, np.array([np.stack([cell[:, 0], cell[:, -1]]).mean() for cell in cells])


@pytest.mark.slow
def test_background_of_one_class_is_brighter(tmp_path):
    manifest, planted = frames(tmp_path / "planted", 8)
    clean_manifest, clean = frames(tmp_path / "clean", 0)
    by_key = dict(zip(clean_manifest.column("key").tolist(), clean, strict=True))
    gain = planted - [by_key[key] for key in manifest.column("key").tolist()]
    assert set(manifest.labels.tolist()) == {0, 1, 2, 3}
    assert np.abs(gain[manifest.labels == 1] - 8).max() < 1
    assert np.abs(gain[manifest.labels != 1]).max() == 0
    assert len(np.unique(manifest.groups[:])) == 4
    assert len(manifest) == 60
    assert (manifest.labels == 0).sum() == 5


def test_a_folder_with_content_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    done = subprocess.run([sys.executable, str(PROGRAM), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "OUT must be a new or empty folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
