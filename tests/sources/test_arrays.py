"""Arrays of NumPy, HDF5 and MATLAB: pixels, labels and features, against the libraries that wrote them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError, DataError
from fastcell.packing.pack import pack
from fastcell.sources.arrays import Arrays
from fastcell.sources.base import Listing
from fastcell.sources.registry import ReadOptions, open_source

h5py = pytest.importorskip("h5py")
scipy_io = pytest.importorskip("scipy.io")

NUM = 50
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (NUM, 7, 11)).astype(np.uint8)
DEEP = PIXELS.astype(np.uint16) * 200
LABELS = RNG.integers(-1, 3, NUM)
AREA = RNG.random(NUM)
NUMBERED = [None if label < 0 else str(label) for label in LABELS.tolist()]
NAMED = [None if label < 0 else ["x", "yy", "z"][label] for label in LABELS.tolist()]


def npy(path: Path) -> None:
    np.save(path, PIXELS)
    np.save(path.with_name(f"{path.stem}_labels.npy"), LABELS)


def npz(path: Path) -> None:
    np.savez(path, images=PIXELS, labels=LABELS, classes=np.array(["x", "yy", "z"]), area=AREA)


def squeezed(path: Path) -> None:
    np.savez_compressed(path, y=LABELS[:, None], area=AREA, x=DEEP[:, None])


def chunked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=DEEP, chunks=(8, 7, 11), compression="gzip")
        file["labels"] = [name or "" for name in NAMED]
        file["area"] = AREA
        file["other"] = np.zeros((3, 3, 3, 3))


def bare(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["X"], file["y"] = PIXELS, LABELS.astype(np.float32)


def mat(path: Path) -> None:
    names = np.array(["x  ", "yy ", "z  "])
    stack = {"stack": PIXELS.transpose(1, 2, 0), "labels": LABELS, "area": AREA, "names": names}
    scipy_io.savemat(path, {"s": {"a": 1}, "c": np.array([[1, "a"]], object), **stack}, do_compression=True)


def mat_plain(path: Path) -> None:
    stack = {"whatever": DEEP.transpose(1, 2, 0), "labels": LABELS.astype(float)[:, None]}
    scipy_io.savemat(path, stack, do_compression=False)


def mat_73(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("images", data=DEEP.transpose(0, 2, 1), chunks=(10, 11, 7), compression="gzip")
        file["labels"], file["area"] = LABELS[None].astype(float), AREA[None]


KINDS: dict[str, tuple[Callable[[Path], None], np.ndarray, list[str | None], bool]] = {
    "a.npy": (npy, PIXELS, NUMBERED, False),
    "a.npz": (npz, PIXELS, NAMED, True),
    "b.npz": (squeezed, DEEP, NUMBERED, True),
    "a.h5": (chunked, DEEP, NAMED, True),
    "b.hdf5": (bare, PIXELS, NUMBERED, False),
    "a.mat": (mat, PIXELS, NAMED, True),
    "b.mat": (mat_plain, DEEP, NUMBERED, False),
    "c.mat": (mat_73, DEEP, NUMBERED, True),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind(tmp_path: Path, name: str) -> None:
    write, pixels, labels, has_area = KINDS[name]
    write(tmp_path / name)
    source = pickle.loads(pickle.dumps(open_source(tmp_path / name)))
    assert isinstance(source, Arrays)
    listing = source.scan()
    assert [item.key for item in listing.items] == [f"{name}/{i:06d}" for i in range(NUM)]
    assert [item.class_name for item in listing.items] == labels
    assert listing.classes == sorted({label for label in labels if label is not None})
    for item, wanted in zip(listing.items, pixels, strict=True):
        found = source.load(item)
        assert found.dtype.itemsize == pixels.itemsize
        assert (found == wanted).all()
    assert (listing.features is not None) == has_area
    if listing.features is not None:
        assert listing.features.names == ["area"]
        ((keys, values),) = listing.features.pieces()
        assert list(keys) == [item.key for item in listing.items]
        assert (values["area"] == AREA).all()


def test_colour_becomes_grey_as_everywhere(tmp_path: Path) -> None:
    colour = RNG.integers(0, 256, (6, 8, 9, 3)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=colour)
    source = Arrays(tmp_path / "a.npz")
    for item, wanted in zip(source.scan().items, colour, strict=True):
        assert (source.load(item) == cv2.cvtColor(wanted, cv2.COLOR_RGB2GRAY)).all()


def test_groups_of_the_file_are_kept_whole(tmp_path: Path) -> None:
    groups = np.array(["d1", "d2", "d3", "d4", "d5"] * 10)
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=np.arange(NUM) % 2, groups=groups)
    manifest = pack(tmp_path / "a.npz", tmp_path / "out")
    assert manifest.groups is not None
    sides = manifest.split()
    assert all(len(set(sides[manifest.groups == group].tolist())) == 1 for group in set(groups.tolist()))


def test_folder_of_files_with_classes(tmp_path: Path) -> None:
    for name, pixels in {"A": PIXELS[:20], "B": PIXELS[20:]}.items():
        (tmp_path / "src" / name).mkdir(parents=True)
        np.save(tmp_path / "src" / name / "s.npy", pixels)
    np.save(tmp_path / "src" / "B" / "none.npy", PIXELS[:0])
    manifest = pack(tmp_path / "src", tmp_path / "out", layout="block")
    assert (len(manifest), manifest.info.classes) == (NUM, ["A", "B"])
    for row, cell in zip(manifest.table.to_pylist(), read_cells(manifest, range(NUM)), strict=True):
        number = int(row["key"].rpartition("/")[2])
        assert (cell == PIXELS[number + (20 if row["class"] == "B" else 0)]).all()


def test_labels_of_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    (tmp_path / "l.csv").write_text("group,label\n" + "".join(f"g{i % 5},c{i % 2}\n" for i in range(NUM)))
    listing = open_source(tmp_path / "a.npy", options=ReadOptions(labels=tmp_path / "l.csv")).scan()
    assert [(item.class_name, item.group) for item in listing.items[:3]] == [("c0", "g0"), ("c1", "g1"), ("c0", "g2")]
    (tmp_path / "l.txt").write_text("one\n\ntwo\n")
    with pytest.raises(DataError, match="one label for each of the 50 cells, got 2"):
        open_source(tmp_path / "a.npy", options=ReadOptions(labels=tmp_path / "l.txt")).scan()
    with pytest.raises(DataError, match="got nothing there"):
        open_source(tmp_path / "a.npy", options=ReadOptions(labels=tmp_path / "no.txt")).scan()
    np.save(tmp_path / "b.npy", PIXELS)
    with pytest.raises(ArgumentError, match="--labels must be given for one file of images, got '2 files'"):
        Arrays(tmp_path, labels=tmp_path / "l.csv", endings=(".npy",)).scan()


def scan(path: Path) -> Listing:
    return open_source(path, options=ReadOptions(format="arrays")).scan()


def refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        scan(path)


def test_labels_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=PIXELS, labels=LABELS[:9])
    refused(path, r"labels must hold one value for each of the 50 images, got \(9,\)")
    np.savez(path, images=PIXELS, labels=LABELS, classes=np.array(["x"]))
    refused(path, "classes must name every label, got 1 names for a label 2")
    np.savez(path, images=PIXELS, labels=AREA)
    refused(path, "labels must be whole numbers or names")
    np.savez(path, images=PIXELS, labels=LABELS, classes=np.array(["x", "x", "z"]))
    refused(path, "class names must be different")


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


def test_arrays_that_are_no_images(tmp_path: Path) -> None:
    for name, array, match in [
        ("f", PIXELS.astype(np.float32), "must hold uint8 or uint16, got float32"),
        ("s", PIXELS.reshape(25, 2, 7, 11), r"must be \(N, H, W\), got \(25, 2, 7, 11\)"),
        ("o", np.asfortranarray(PIXELS), "Fortran order"),
        ("z", PIXELS[:, :0], "images of 1 to"),
    ]:
        np.savez(tmp_path / f"{name}.npz", images=array)
        refused(tmp_path / f"{name}.npz", match)
    np.savez(tmp_path / "two.npz", one=PIXELS, two=PIXELS)
    refused(tmp_path / "two.npz", r"must hold one array of images .* got one \(50, 7, 11\), two .*Name it images")
    np.savez(tmp_path / "short.npz", x=PIXELS[0, 0])
    refused(tmp_path / "short.npz", r"got x \(11,\)\. Put it at the top level")
    np.save(tmp_path / "one.npy", PIXELS[0])
    refused(tmp_path / "one.npy", r"got images \(7, 11\)\. Save it with three axes")
    scipy_io.savemat(tmp_path / "d.mat", {"images": PIXELS.transpose(1, 2, 0).astype(float)})
    refused(tmp_path / "d.mat", "H x W x N of class uint8 or uint16, got 7 x 11 x 50 of float64")
    np.savez(tmp_path / "none.npz", images=PIXELS[:0])
    refused(tmp_path / "none.npz", "no usable cell, for no image is in none.npz")


def test_texts_that_the_library_cannot_read_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunked(tmp_path / "a.h5")
    monkeypatch.setattr("fastcell.sources.hdf5._TEXT_LIMIT_S", 0.001)
    refused(tmp_path / "a.h5", r"a.h5 cannot be read \(the texts of /labels\)")


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


def test_matlab_files_that_were_cut(tmp_path: Path) -> None:
    for name, write in {"a.mat": mat, "b.mat": mat_plain}.items():
        write(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        refused(tmp_path / name, f"{name} cannot be read")
    (tmp_path / "c.mat").write_bytes(b"x" * 300)
    refused(tmp_path / "c.mat", "not a MAT-file")
