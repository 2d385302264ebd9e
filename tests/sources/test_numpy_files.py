"""NumPy files: headers, values, and nothing unpickled."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.packing.pack import pack
from fastcell.sources.numpy_files import NpyFile, NpzFile, read_column, read_header
from fastcell.sources.registry import ReadOptions, open_source

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 7, 11)).astype(np.uint8)
DEEP = PIXELS.astype(np.uint16) * 200


def scan(path):
    return open_source(path, options=ReadOptions(format="arrays")).scan()


def refused(path, match):
    with pytest.raises(DataError, match=match):
        scan(path)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
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


def test_claims_beyond_the_bytes(tmp_path):
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


def test_a_damaged_member_takes_its_cells_to_the_quarantine(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=DEEP)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="no usable cell: 50 bad cells: damaged"):
        pack(path, tmp_path / "out", window=(0.0, 65535.0))


def npy_bytes(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x93NUMPY", b"PK\x03\x04" + bytes(40), npy_bytes(PIXELS)[:30],
        npy_bytes(np.zeros(2, [("a", "u1"), ("b", "f8")])), npy_bytes(np.zeros(2, "datetime64[s]")),
        npy_bytes(PIXELS).replace(b"|u1", b"|u9"), npy_bytes(PIXELS).replace(b"False", b"exit("),
    ],
)  # fmt: skip
def test_headers_that_are_none(data):
    assert read_header(data[:4096]) is None


def test_one_array(tmp_path):
    np.save(tmp_path / "a.npy", DEEP)
    file = NpyFile(str(tmp_path / "a.npy"))
    assert file.shapes() == {"images": (50, 7, 11)}
    stack = file.stack("images")
    assert stack[:6] == (50, 7, 11, 1, "<u2", 0)
    assert all(np.array_equal(stack.load(number), DEEP[number]) for number in (0, 17, 49))
    np.save(tmp_path / "b.npy", np.arange(5)[:, None])
    assert read_column(str(tmp_path / "b.npy"), 5).tolist() == [0, 1, 2, 3, 4]
    assert read_column(str(tmp_path / "b.npy"), 4) is None
    np.save(tmp_path / "c.npy", np.array(["x", "yy"]))
    names = read_column(str(tmp_path / "c.npy"), 2)
    assert (names.dtype, names.tolist()) == (object, ["x", "yy"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_named_arrays(tmp_path, save):
    colour = np.random.default_rng(1).integers(0, 256, (6, 8, 9, 3)).astype(np.uint8)
    save(tmp_path / "a.npz", deep=DEEP, colour=colour, area=np.linspace(0, 1, 50), names=np.array(["x", "yy"]))
    file = NpzFile(str(tmp_path / "a.npz"))
    assert file.shapes() == {"deep": (50, 7, 11), "colour": (6, 8, 9, 3), "area": (50,), "names": (2,)}
    for name, pixels in {"deep": DEEP, "colour": colour}.items():
        stack = NpzFile(str(tmp_path / "a.npz")).stack(name)
        assert stack[:4] == (*pixels.shape[:3], 3 if name == "colour" else 1)
        assert all(np.array_equal(stack.load(number), pixels[number]) for number in (5, 0, 3))
    assert file.values("area", 50).tolist() == np.linspace(0, 1, 50).tolist()
    assert file.values("names", 2).tolist() == ["x", "yy"]
    assert file.values("area", 49) is None
    assert file.values("deep", 50) is None


def test_a_wrong_checksum_is_seen(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, area=np.linspace(0, 1, 50))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"area\.npy is truncated, or its checksum is wrong"):
        NpzFile(str(path)).values("area", 50)
