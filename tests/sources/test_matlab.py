"""MATLAB files: variables against SciPy, and damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.sources.base import Listing
from fastcell.sources.registry import ReadOptions, open_source

scipy_io = pytest.importorskip("scipy.io")


NUM = 50


RNG = np.random.default_rng(0)


PIXELS = RNG.integers(0, 256, (NUM, 7, 11)).astype(np.uint8)


DEEP = PIXELS.astype(np.uint16) * 200


LABELS = RNG.integers(-1, 3, NUM)


AREA = RNG.random(NUM)


def mat(path: Path) -> None:
    names = np.array(["x  ", "yy ", "z  "])
    stack = {"stack": PIXELS.transpose(1, 2, 0), "labels": LABELS, "area": AREA, "names": names}
    scipy_io.savemat(path, {"s": {"a": 1}, "c": np.array([[1, "a"]], object), **stack}, do_compression=True)


def mat_plain(path: Path) -> None:
    stack = {"whatever": DEEP.transpose(1, 2, 0), "labels": LABELS.astype(float)[:, None]}
    scipy_io.savemat(path, stack, do_compression=False)


def scan(path: Path) -> Listing:
    return open_source(path, options=ReadOptions(format="arrays")).scan()


def refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        scan(path)


def test_matlab_files_that_were_cut(tmp_path: Path) -> None:
    for name, write in {"a.mat": mat, "b.mat": mat_plain}.items():
        write(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        refused(tmp_path / name, f"{name} cannot be read")
    (tmp_path / "c.mat").write_bytes(b"x" * 300)
    refused(tmp_path / "c.mat", "not a MAT-file")
