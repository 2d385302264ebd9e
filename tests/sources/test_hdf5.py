"""HDF5 files: images in every layout, and claims that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.sources.base import Listing
from fastcell.sources.registry import ReadOptions, open_source

h5py = pytest.importorskip("h5py")


NUM = 50


RNG = np.random.default_rng(0)


PIXELS = RNG.integers(0, 256, (NUM, 7, 11)).astype(np.uint8)


DEEP = PIXELS.astype(np.uint16) * 200


LABELS = RNG.integers(-1, 3, NUM)


AREA = RNG.random(NUM)


NAMED = [None if label < 0 else ["x", "yy", "z"][label] for label in LABELS.tolist()]


def chunked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=DEEP, chunks=(8, 7, 11), compression="gzip")
        file["labels"] = [name or "" for name in NAMED]
        file["area"] = AREA
        file["other"] = np.zeros((3, 3, 3, 3))


def scan(path: Path) -> Listing:
    return open_source(path, options=ReadOptions(format="arrays")).scan()


def refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        scan(path)


def test_texts_that_the_library_cannot_read_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunked(tmp_path / "a.h5")
    monkeypatch.setattr("fastcell.sources.hdf5._TEXT_LIMIT_S", 0.001)
    refused(tmp_path / "a.h5", r"a.h5 cannot be read \(the texts of /labels\)")
