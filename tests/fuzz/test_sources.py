"""Hostile files of many cells: each gives cells, a message or a quarantine row, never another error."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fastcell.dataset.decode import decode
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.open_files import look_again
from fastcell.errors import BadCell, FastcellError
from fastcell.sources.registry import ReadOptions, open_source

HERE = Path(__file__).resolve().parent
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6, 9)).astype(np.uint8)
NUMBERS = np.arange(40)


def write_rtdc(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("events/image", data=PIXELS, chunks=(8, 6, 9), compression="gzip")
        file["events/area"] = NUMBERS.astype(float)


def write_npz(path):
    np.savez_compressed(path, images=PIXELS, labels=NUMBERS % 2, classes=np.array(["a", "b"]), area=NUMBERS)


def write_mat(path):
    scipy_io = pytest.importorskip("scipy.io")
    stack = {"images": PIXELS.transpose(1, 2, 0), "labels": NUMBERS % 2}
    scipy_io.savemat(path, stack, do_compression=path.name.startswith("a"))


def write_montage(path):
    page = PIXELS.reshape(5, 8, 6, 9).transpose(0, 2, 1, 3).reshape(30, 72)
    tifffile.imwrite(path, page, compression="zlib")


def write_ifcb(path):
    rows = [f"{i // 2},0,0,0,0,0,0,0,0,{i},0,9,6,{54 * i},0" for i in range(40)]
    path.write_text("\n".join(rows))
    path.with_suffix(".roi").write_bytes(PIXELS.tobytes())


def write_csv(path):
    np.save(path.with_name("s.npy"), PIXELS)
    path.write_text("path,label,x\n" + "".join(f"s.npy/{i:06d},c{i % 2},{i}\n" for i in range(40)))


KINDS = {
    "a.rtdc": write_rtdc,
    "a.npy": lambda path: np.save(path, PIXELS),
    "a.npz": write_npz,
    "b.npz": lambda path: np.savez(path, images=PIXELS, labels=NUMBERS),
    "a.mat": write_mat,
    "b.mat": write_mat,
    "a.tif": lambda path: tifffile.imwrite(path, PIXELS[:8], compression="zlib"),
    "b.tif": lambda path: tifffile.imwrite(path, PIXELS[:8], rowsperstrip=2, bigtiff=True),
    "c.tif": lambda path: tifffile.imwrite(path, PIXELS[:8], ome=True, metadata={"axes": "TYX"}),
    "m.tif": write_montage,
    "IFCB5_2012_028_081515.adc": write_ifcb,
    "t.csv": write_csv,
}


def use(path):
    """Read all of a file as `pack` does; how many cells were good."""
    options = ReadOptions(tile=(6, 9) if path.name == "m.tif" else None)
    source, num = open_source(path, options=options), 0
    listing = source.scan()
    assert len(listing.items) <= 5000
    with DecoderMessages() as messages:
        for item in listing.items:
            try:
                decode(source.load(item), item.encoding, (0.0, 65535.0))
                messages.check()
                num += 1
            except (BadCell, OSError):
                pass
    if listing.features is not None:
        for keys, values in listing.features.pieces():
            assert all(len(column) == len(keys) for column in values.values())
    return num


def outcomes(folder, name, num):
    sys.path.insert(0, str(HERE))
    try:
        from mutations import mutate_bytes
    finally:
        sys.path.remove(str(HERE))
    path = folder / name
    KINDS[name](path)
    good = path.read_bytes()
    assert use(path) == (8 if name in ("a.tif", "b.tif", "c.tif") else 20 if name.startswith("IFCB") else 40)
    found = {"cells": 0, "refused": 0}
    for seed in range(num):
        place = folder / str(seed) / name  # HDF5 knows an open file by its place
        place.parent.mkdir()
        for beside in folder.glob("*.roi"), folder.glob("s.npy"):
            for other in beside:
                (place.parent / other.name).symlink_to(other)
        place.write_bytes(mutate_bytes(random.Random(seed), good, good))
        look_again()
        try:
            use(place)
            found["cells"] += 1
        except FastcellError:
            found["refused"] += 1
        for left in place.parent.iterdir():
            left.unlink()
    return found


@pytest.mark.parametrize("name", KINDS)
def test_some_hostile_files(tmp_path, name):
    found = outcomes(tmp_path, name, 60)
    assert min(found["cells"], found["refused"]) >= (0 if name.startswith("IFCB") else 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", KINDS)
def test_a_thousand_hostile_files(tmp_path, name):
    assert sum(outcomes(tmp_path, name, 1000).values()) == 1000
