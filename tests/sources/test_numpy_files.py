"""NumPy files: headers, values, and nothing unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.packing.pack import pack
from fastcell.sources.base import Listing
from fastcell.sources.registry import ReadOptions, open_source

NUM = 50


RNG = np.random.default_rng(0)


PIXELS = RNG.integers(0, 256, (NUM, 7, 11)).astype(np.uint8)


DEEP = PIXELS.astype(np.uint16) * 200


def scan(path: Path) -> Listing:
    return open_source(path, options=ReadOptions(format="arrays")).scan()


def refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        scan(path)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    evil = np.empty(4, object)
    evil[:] = [Evil()] * 4
    np.save(tmp_path / "a.npy", evil, allow_pickle=True)
    refused(tmp_path / "a.npy", "pickled objects are not read")
    np.savez(tmp_path / "a.npz", images=PIXELS[:4], labels=evil)
    refused(tmp_path / "a.npz", "labels must be an array of numbers or texts, got objects, which are not unpickled")
    np.savez(tmp_path / "b.npz", images=PIXELS[:4], other=evil)
    assert len(scan(tmp_path / "b.npz").items) == 4
    assert not (tmp_path / "executed").exists()


def test_claims_beyond_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, PIXELS)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    refused(path, r"an array of shape \(50, 7, 11\) in")
    huge = data.replace(b"(50, 7, 11), }", b"(1099511627776, 7, 11), }")[: len(data)]
    path.write_bytes(huge)
    refused(path, "a.npy cannot be read|no array of numbers")
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (1 << 33, 1, 1)})
        for _ in range(40):
            member.write(bytes(1 << 20))
    refused(bomb, "in 41,943,168 bytes|claims")
    cut = tmp_path / "cut.npz"
    np.savez_compressed(cut, images=DEEP)
    cut.write_bytes(cut.read_bytes()[:-200])
    refused(cut, "cut.npz cannot be read")


def test_a_damaged_member_takes_its_cells_to_the_quarantine(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=DEEP)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="no usable cell: 50 bad: damaged"):
        pack(path, tmp_path / "out", window=(0.0, 65535.0))
