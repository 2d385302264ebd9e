"""A detail that a small image cannot hold is missed there, and found in a larger one."""

import csv

import numpy as np
import pytest

from fastcell.compare.resolution_study import check_sizes, run_resolutions
from fastcell.errors import ArgumentError


def fine(name, number):
    """Stripes of one pixel, across or along; the third class has none."""
    cell = np.full((32, 32), 120.0)
    if name == "left":
        cell[::2] = 180
    elif name == "right":
        cell[:, ::2] = 180
    return np.clip(cell + np.random.default_rng(number).normal(0, 3, cell.shape), 1, 255).astype(np.uint8)


def test_accuracy_by_size_and_volume(planted, study_of):
    study = study_of(planted(draw=fine))
    lines, entries = run_resolutions(study, ["knn"], [0.5, 1.0], 1, [8, 32])
    tests = {(e.image_size, e.volume): e.accuracy for e in entries if e.part == "test"}
    assert tests[32, 1.0] == 1
    assert tests[8, 1.0] < 1
    with open(study.out_dir / "accuracy_by_resolution-default-knn.csv", newline="") as file:
        rows = {(int(row["image_size_px"]), float(row["volume"])): row["accuracy"] for row in csv.DictReader(file)}
    assert rows[32, 1.0] == "1.000000"
    assert set(rows) == {(8, 0.5), (8, 1.0), (32, 0.5), (32, 1.0)}
    table = [line for line in lines if line.startswith("| 32 × 32 px |")]
    assert table[0].endswith("| 1.000 (0.632..1.000) |")


@pytest.mark.parametrize("text", ["", "7", "64,2000", "64.5", "a"])
def test_sizes_in_their_range(text):
    with pytest.raises(ArgumentError, match="--sizes must be sides from 8 to 1024 pixels"):
        check_sizes(text)
