"""HDF5 files: images in every layout, and claims that are refused."""

import numpy as np
import pytest

from fastcell.dataset.open_files import look_again, stamp_of
from fastcell.errors import BadCell, DataError
from fastcell.sources.hdf5 import (
    close_files,
    describe_images,
    image_shape,
    load_images,
    opened,
    read_numbers,
    read_values,
    written,
)
from fastcell.sources.hdf5_links import find
from fastcell.sources.registry import ReadOptions, open_source

h5py = pytest.importorskip("h5py")
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 7, 11)).astype(np.uint8)
DEEP = PIXELS.astype(np.uint16) * 200
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 8, 9, 3)).astype(np.uint8)


def test_texts_that_the_library_cannot_read_in_time(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = PIXELS, ["x"] * 50
    monkeypatch.setattr("fastcell.sources.hdf5._TEXT_LIMIT_S", 0.001)
    with pytest.raises(DataError, match=r"a.h5 cannot be read \(the texts of /labels\)"):
        open_source(tmp_path / "a.h5", options=ReadOptions(format="arrays")).scan()


def written_in_swmr(path):
    """Return the bytes of a file of `PIXELS` that a process has open in the mode SWMR."""
    with h5py.File(path, "w", libver="latest", locking=False) as file:
        shown = file.create_dataset("events/image", (0, 7, 11), "u1", chunks=(8, 7, 11), maxshape=(None, 7, 11))
        file.swmr_mode = True
        shown.resize(50, 0)
        shown[:] = PIXELS
        file.flush()
        return path.read_bytes()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("block", [b"OHDR", b"EAHD", b"EAIB", b"EADB"])
def test_damage_in_a_file_that_is_being_written_ends_the_reading(tmp_path, block):
    """By default the library reads metadata with a wrong checksum 100 times and waits twice as long each time."""
    data = bytearray(written_in_swmr(tmp_path / "now.h5"))
    path = tmp_path / "cells.rtdc"
    path.write_bytes(data)
    assert load_cell(path, 49).tobytes() == PIXELS[49].tobytes()
    data[data.rindex(block) + 9] ^= 255
    path.write_bytes(data)
    with pytest.raises((DataError, BadCell), match="cells.rtdc cannot be read|damaged"):
        load_cell(path, 49)


def load_cell(path, number):
    look_again()
    close_files()
    source = open_source(path)
    return source.load(source.scan().items[number])


@pytest.mark.parametrize(
    ("pixels", "how"),
    [
        (PIXELS, {}),
        (DEEP, {"chunks": (1, 7, 11)}),
        (DEEP, {"chunks": (8, 4, 5), "compression": "gzip"}),
        (PIXELS[:, None], {"chunks": (50, 1, 7, 11)}),
        (DEEP[..., None], {}),
        (COLOUR, {"chunks": (4, 8, 9, 3)}),
        (DEEP.astype(">u2"), {}),
    ],
)
def test_images_in_every_layout(tmp_path, pixels, how):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("deep/images", data=pixels, **how)
    look_again()
    with opened(path) as file:
        images = describe_images(file, find(file, "deep/images"), stamp_of(path)[0])
    cells = pixels if pixels.ndim == 4 and pixels.shape[3] == 3 else pixels.reshape(len(pixels), *images[2:4])
    assert (images.name, images.num, images.channels) == ("deep/images", len(pixels), 3 if cells.ndim == 4 else 1)
    assert np.dtype(images.dtype) == pixels.dtype
    assert images.cell_bytes == images.height * images.width * pixels.itemsize
    assert (images.run_cells == 0) == (not how)  # bare where not in chunks
    for number in (0, len(cells) - 1, 3):
        found = load_images(path, images, number)
        assert found.dtype == pixels.dtype
        assert np.array_equal(found, cells[number])


def test_runs_are_whole_chunks(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=PIXELS, chunks=(24, 7, 11))
        file.create_dataset("large", data=np.zeros((3, 2000, 2000), np.uint8), chunks=(1, 2000, 2000))
    with opened(path) as file:
        assert describe_images(file, find(file, "images"), stamp_of(path)[0]).run_cells == 48
        assert describe_images(file, find(file, "large"), stamp_of(path)[0]).run_cells == 1


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((5, 7, 11), np.uint8, (7, 11, 1)),
        ((5, 1, 7, 11), np.uint16, (7, 11, 1)),
        ((5, 7, 11, 1), np.uint8, (7, 11, 1)),
        ((5, 7, 11, 4), np.uint8, (7, 11, 4)),
        ((0, 0, 11), np.uint8, (0, 11, 1)),
    ],
)
def test_shapes_of_images(shape, dtype, expected):
    assert image_shape("a", "x", shape, np.dtype(dtype)) == expected


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((5, 7, 11), np.float32, "a: x must hold uint8 or uint16, got float32"),
        ((5, 7, 11), np.uint32, "must hold uint8 or uint16, got uint32"),
        ((5, 2, 7, 11), np.uint8, r"must be \(N, H, W\), got \(5, 2, 7, 11\)"),
        ((5, 7), np.uint8, r"must be \(N, H, W\)"),
        ((5, 0, 7), np.uint8, "images of 1 to"),
        ((1, 1 << 20, 1 << 20), np.uint8, "images of 1 to"),
    ],
)
def test_shapes_that_are_no_images(shape, dtype, message):
    with pytest.raises(DataError, match=message):
        image_shape("a", "x", shape, np.dtype(dtype))


def test_claims_that_the_file_cannot_hold(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("empty", (1 << 40, 7, 11), "u1", chunks=(16, 7, 11))
        file.create_dataset("late", (1 << 30, 7, 11), "u1")
        file.create_dataset("huge", (4, 30_000, 30_000), "u1", chunks=(1, 30_000, 30_000))
    size = stamp_of(path)[0]
    for name, message in {
        "empty": "of 1,099,511,627,776 images has no chunk",
        "late": r"late of shape \(1073741824, 7, 11\) has 0 bytes",
    }.items():
        with opened(path) as file, pytest.raises(DataError, match=message):
            describe_images(file, find(file, name), size)
    with opened(path) as file, pytest.raises(DataError, match=r"huge"):
        describe_images(file, find(file, "huge"), size)


def test_chunks_that_were_never_written(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (9, 7, 11), "u1", chunks=(4, 7, 6))
        images[:4] = PIXELS[:4]
        images[4:8, :, :6] = PIXELS[4:8, :, :6]  # half of the second row of chunks
        numbers = file.create_dataset("numbers", (9,), "i4", chunks=(3,))
        numbers[:3] = [7, 8, 9]
        texts = file.create_dataset("texts", (9,), "S4", chunks=(3,))
        texts[3:6] = [b"a", b"b", b"c"]
        file["whole"] = np.arange(9)
        file.create_dataset("short", data=np.arange(4.0), chunks=(2,))
    with opened(path) as file:
        assert describe_images(file, file["images"], stamp_of(path)[0]).num == 9
        there = written(file["images"], 9)
        assert there is not None
        assert there.tolist() == [True] * 4 + [False] * 5
        assert written(file["whole"], 9) is None
        np.testing.assert_array_equal(read_values(file["numbers"], 9), [7, 8, 9] + [np.nan] * 6)
        assert read_values(file["texts"], 9).tolist() == [""] * 3 + ["a", "b", "c"] + [""] * 3
        np.testing.assert_array_equal(read_numbers(file["numbers"], 1, 5), [8, 9, np.nan, np.nan])
        np.testing.assert_array_equal(read_numbers(file["short"], 2, 6), [2, 3, np.nan, np.nan])


def test_values_of_cells(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file["numbers"] = np.array([[1.5], [2.5]])
        file["fixed"] = np.array([b"ab", b"c\xff"])
        file["texts"] = ["one", "zwölf"]
        file["long"] = np.zeros(3)
        file["pairs"] = np.zeros((2, 2))
        file["complex"] = np.zeros(2, complex)
    with opened(path) as file:
        assert read_values(file["numbers"], 2).tolist() == [1.5, 2.5]
        assert read_values(file["fixed"], 2).tolist() == ["ab", "c\\xff"]
        assert read_values(file["texts"], 2).tolist() == ["one", "zwölf"]
        assert [read_values(file[name], 2) for name in ("long", "pairs", "complex")] == [None] * 3


def test_what_is_no_hdf5_file(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"no HDF5 at all")

    def read():
        with opened(str(tmp_path / "a.h5")):
            pass

    with pytest.raises(DataError, match=r"a\.h5 cannot be read"):
        read()
