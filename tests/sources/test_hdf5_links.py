"""Paths in HDF5 files: links inside the file are followed, other files are never opened."""

import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.sources.hdf5 import opened
from fastcell.sources.hdf5_links import children, find

h5py = pytest.importorskip("h5py")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 11)).astype(np.uint8)


def test_soft_links_inside_the_file_are_followed(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file["raw/x"] = PIXELS
        file["raw/near"] = h5py.SoftLink("x")
        file["images"] = h5py.SoftLink("/raw/x")
        file["again"] = h5py.SoftLink("group/near")
        file["group"] = h5py.SoftLink("/raw")
        file["lost"] = h5py.SoftLink("/nowhere")
        file["circle"] = h5py.SoftLink("/circle")
    with opened(path) as file:
        assert children(file) == ["again", "group", "images", "raw"]
        for name in ("images", "raw/near", "group/x", "again", "/raw/./x"):
            assert np.array_equal(find(file, name)[()], PIXELS)
        for name, message in {
            "lost": r"lost is a link to '/nowhere', which is not in the file",
            "circle": "circle is a chain of more than 16 links",
        }.items():
            with pytest.raises(DataError, match=message):
                find(file, name)


def test_bytes_of_other_files_are_not_read(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = PIXELS
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file["mine"] = PIXELS
        file["soft"] = h5py.SoftLink("/mine")
        file["hidden"] = h5py.SoftLink("/out")
        file["out"] = h5py.ExternalLink("other.h5", "/images")
        layout = h5py.VirtualLayout(shape=PIXELS.shape, dtype=PIXELS.dtype)
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "images", shape=PIXELS.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("stored", PIXELS.shape, "u1", external=[("raw.bin", 0, PIXELS.size)])
    with opened(path) as file:
        file_names = children(file)
        assert file_names == ["mine", "soft", "stored", "virtual"]
        assert np.array_equal(find(file, "mine")[()], PIXELS)
        assert find(file, "none") is None
        assert find(file, "mine/none") is None
        for name, what in {
            "out": "a link to 'other.h5', and other files are not read",
            "hidden": "a link to 'other.h5'",
            "virtual": "a virtual dataset whose data may lie in other files",
            "stored": "external storage whose data may lie in other files",
        }.items():
            with pytest.raises(DataError, match=f"{name} is {what}"):
                find(file, name)
