"""Arrays of NumPy, HDF5 and MATLAB: pixels, labels and features, against the libraries that wrote them."""

import pickle

import cv2
import numpy as np
import pytest

from fastcell.dataset.single_cells import read_cells
from fastcell.errors import StrictError
from fastcell.packing.pack import pack
from fastcell.sources.arrays import Arrays
from fastcell.sources.registry import open_source

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


def npy(path):
    np.save(path, PIXELS)
    np.save(path.with_name(f"{path.stem}_labels.npy"), LABELS)


def npz(path):
    np.savez(path, images=PIXELS, labels=LABELS, classes=np.array(["x", "yy", "z"]), area=AREA)


def squeezed(path):
    np.savez_compressed(path, y=LABELS[:, None], area=AREA, x=DEEP[:, None])


def chunked(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=DEEP, chunks=(8, 7, 11), compression="gzip")
        file["labels"] = [name or "" for name in NAMED]
        file["area"] = AREA
        file["other"] = np.zeros((3, 3, 3, 3))


def bare(path):
    with h5py.File(path, "w") as file:
        file["X"], file["y"] = PIXELS, LABELS.astype(np.float32)


def mat(path):
    names = np.array(["x  ", "yy ", "z  "])
    stack = {"stack": PIXELS.transpose(1, 2, 0), "labels": LABELS, "area": AREA, "names": names}
    scipy_io.savemat(path, {"s": {"a": 1}, "c": np.array([[1, "a"]], object), **stack}, do_compression=True)


def mat_plain(path):
    stack = {"whatever": DEEP.transpose(1, 2, 0), "labels": LABELS.astype(float)[:, None]}
    scipy_io.savemat(path, stack, do_compression=False)


def mat_73(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("images", data=DEEP.transpose(0, 2, 1), chunks=(10, 11, 7), compression="gzip")
        file["labels"], file["area"] = LABELS[None].astype(float), AREA[None]


KINDS = {
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
def test_every_kind(tmp_path, name):
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


def test_colour_becomes_grey_as_everywhere(tmp_path):
    colour = RNG.integers(0, 256, (6, 8, 9, 3)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=colour)
    source = Arrays(tmp_path / "a.npz")
    for item, wanted in zip(source.scan().items, colour, strict=True):
        assert (source.load(item) == cv2.cvtColor(wanted, cv2.COLOR_RGB2GRAY)).all()


def test_groups_of_the_file_are_kept_whole(tmp_path):
    groups = np.array(["d1", "d2", "d3", "d4", "d5"] * 10)
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=np.arange(NUM) % 2, groups=groups)
    manifest = pack(tmp_path / "a.npz", tmp_path / "out")
    assert manifest.groups is not None
    sides = manifest.split()
    assert all(len(set(sides[manifest.groups[:] == group].tolist())) == 1 for group in set(groups.tolist()))


def test_folder_of_files_with_classes(tmp_path):
    for name, pixels in {"A": PIXELS[:20], "B": PIXELS[20:]}.items():
        (tmp_path / "src" / name).mkdir(parents=True)
        np.save(tmp_path / "src" / name / "s.npy", pixels)
    np.save(tmp_path / "src" / "B" / "none.npy", PIXELS[:0])
    manifest = pack(tmp_path / "src", tmp_path / "out", layout="block")
    assert (len(manifest), manifest.info.classes) == (NUM, ["A", "B"])
    for row, cell in zip(manifest.table.to_pylist(), read_cells(manifest, range(NUM)), strict=True):
        number = int(row["key"].rpartition("/")[2])
        assert (cell == PIXELS[number + (20 if row["class"] == "B" else 0)]).all()


def test_files_that_cannot_be_used_do_not_end_the_others(tmp_path):
    root = tmp_path / "src"
    root.mkdir()
    np.savez(root / "good.npz", images=PIXELS, labels=LABELS)
    (root / "cut.npz").write_bytes((root / "good.npz").read_bytes()[:700])
    (root / "void.npz").write_bytes(b"")
    np.savez(root / "none.npz", images=PIXELS[:0])
    np.savez(root / "other.npz", numbers=AREA)
    np.savez(root / "half.npz", images=PIXELS, labels=LABELS + 0.5)
    manifest = pack(root, tmp_path / "out")
    assert len(manifest) == NUM
    reasons = {row["key"]: row["reason"] for row in manifest.quarantine().to_pylist()}
    assert sorted(reasons) == ["cut.npz", "half.npz", "none.npz", "other.npz", "void.npz"]
    assert reasons["void.npz"] == "empty file"
    assert reasons["none.npz"] == "no image in the file"
    assert reasons["cut.npz"].startswith("file that cannot be used: cannot be read")
    first = next(label for label in (LABELS + 0.5).tolist() if label >= 0)
    assert f"labels must be whole numbers or names, got {first}" in reasons["half.npz"]
    with pytest.raises(StrictError):
        pack(root, tmp_path / "strict", strict=True)


def test_an_acquisition_that_was_cut_off(tmp_path):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        images = file.create_dataset("images", (5, 7, 11), "u1", chunks=(4, 7, 11), maxshape=(None, 7, 11))
        images[:4] = PIXELS[:4]
        images.resize(9, axis=0)
        images[4:8] = PIXELS[4:8]
        file["labels"] = np.arange(9) % 2
        file["area"] = AREA[:9]
    source = Arrays(tmp_path / "run.h5")
    listing = source.scan()
    assert [item.key for item in listing.items] == [f"run.h5/{number:06d}" for number in range(8)]
    assert [item.class_name for item in listing.items] == ["0", "1"] * 4
    assert [(bad.item.key, bad.reason) for bad in listing.rejected] == [
        ("run.h5/000008", "its chunk was never written")
    ]
    with h5py.File(tmp_path / "run.h5", locking=False) as file:
        stored = file["images"][:8]
    assert np.array_equal(np.stack([source.load(item) for item in listing.items]), stored)


def test_arrays_that_may_be_the_classes_under_another_name_are_noted(tmp_path):
    np.savez(tmp_path / "a.npz", images=PIXELS, cell_type=np.arange(NUM) % 3, area=AREA, note=np.array(["a"] * NUM))
    listing = Arrays(tmp_path / "a.npz").scan()
    assert listing.features is not None
    assert listing.features.names == ["cell_type", "area"]
    assert listing.notes == [
        (
            "arrays of other types than numbers are not read: note. If one of them holds the classes or groups, "
            "name it labels or groups."
        ),
        (
            "no array is named labels; cell_type of few different whole numbers is read as a feature. If it holds the "
            "classes, name it labels."
        ),
    ]
    np.savez(tmp_path / "b.npz", images=PIXELS, labels=LABELS, cell_type=np.arange(NUM) % 3)
    assert Arrays(tmp_path / "b.npz").scan().notes == []
