"""MATLAB files: variables against SciPy, and damage."""

import numpy as np
import pytest

from fastcell.dataset.open_files import look_again
from fastcell.errors import BadCell, DataError
from fastcell.sources.matlab import Mat5File, Mat73File
from fastcell.sources.registry import ReadOptions, open_source

scipy_io = pytest.importorskip("scipy.io")
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 7, 11)).astype(np.uint8)
DEEP = PIXELS.astype(np.uint16) * 200
STACK = PIXELS.transpose(1, 2, 0)
LABELS = np.random.default_rng(1).integers(-1, 3, 20)


@pytest.fixture(autouse=True)
def _fresh():
    look_again()


def test_matlab_files_that_were_cut(tmp_path):
    for name, compressed in {"a.mat": True, "b.mat": False}.items():
        scipy_io.savemat(tmp_path / name, {"stack": STACK, "labels": LABELS}, do_compression=compressed)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            open_source(tmp_path / name, options=ReadOptions(format="arrays")).scan()
    (tmp_path / "c.mat").write_bytes(b"x" * 300)
    with pytest.raises(DataError, match="not a MAT-file"):
        open_source(tmp_path / "c.mat", options=ReadOptions(format="arrays")).scan()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("pixels", [PIXELS, DEEP])
def test_images_and_values_of_version_5(tmp_path, pixels, compressed):
    path = str(tmp_path / "a.mat")
    variables = {
        "stack": pixels.transpose(1, 2, 0), "row": LABELS[None], "column": LABELS[:, None].astype(float),
        "names": np.array(["ab ", "c  "]), "area": np.linspace(0, 1, 20, dtype=np.float32),
        "s": {"a": 1}, "c": np.array([[1, "a"]], object), "z": np.array([1 + 2j]),
    }  # fmt: skip
    scipy_io.savemat(path, variables, do_compression=compressed)
    file = Mat5File(path)
    shapes = file.shapes()
    assert shapes["stack"] == (20, 7, 11)  # cells first
    assert shapes["row"] == shapes["column"] == shapes["area"] == (20,)
    assert not {"s", "c", "z"} & set(shapes)  # structures, cells and complex numbers are passed over
    stack = file.stack("stack")
    assert stack[:4] == (20, 7, 11, 1)
    assert np.dtype(stack.dtype) == pixels.dtype
    for number in (0, 13, 19):
        found = stack.load(number)
        assert found.dtype == pixels.dtype
        assert np.array_equal(found, pixels[number])
    assert file.values("row", 20).tolist() == LABELS.tolist()
    assert file.values("column", 20).tolist() == LABELS.tolist()
    np.testing.assert_allclose(file.values("area", 20), np.linspace(0, 1, 20), rtol=1e-6)
    assert file.values("names", 2).tolist() == ["ab", "c"]
    assert file.values("names", 3) is None
    assert file.values("row", 19) is None
    assert file.values("stack", 20) is None


def test_small_numbers_keep_their_class(tmp_path):
    """MATLAB stores numbers in the smallest type that holds them; what they are is in the class."""
    path = tmp_path / "a.mat"
    scipy_io.savemat(path, {"images": STACK.astype(np.uint16)}, do_compression=False)
    stack = Mat5File(str(path)).stack("images")
    assert np.dtype(stack.dtype) == np.uint16
    assert np.array_equal(stack.load(3), PIXELS[3])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (STACK.astype(float), "must be H x W x N of class uint8 or uint16, got 7 x 11 x 20 of float64"),
        (STACK[..., 0], "must be H x W x N of class uint8 or uint16, got 7 x 11 of uint8"),
        (STACK.astype(np.int8), "got 7 x 11 x 20 of int8"),
    ],
)
def test_variables_that_are_no_images(tmp_path, array, message):
    scipy_io.savemat(tmp_path / "a.mat", {"images": array})
    with pytest.raises(DataError, match=message):
        Mat5File(str(tmp_path / "a.mat")).stack("images")


def test_damaged_values_are_a_bad_cell(tmp_path):
    path = tmp_path / "a.mat"
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 100)).astype(np.uint8)
    scipy_io.savemat(path, {"images": noise}, do_compression=True)
    data = bytearray(path.read_bytes())
    data[-100] ^= 0xFF
    path.write_bytes(data)
    stack = Mat5File(str(path)).stack("images")
    with pytest.raises(BadCell, match="damaged"):
        stack.load(0)


def test_version_7_3_is_hdf5_in_reverse(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = str(tmp_path / "a.mat")
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("images", data=DEEP.transpose(0, 2, 1), chunks=(10, 11, 7), compression="gzip")
        file.create_dataset("colour", data=np.zeros((4, 5, 6, 3), np.uint8))
        file["labels"], file["area"] = LABELS[None].astype(float), np.linspace(0, 1, 20)[:, None]
        file["text"] = "never mind"
        file.create_group("structure")
    found = Mat73File(path)
    shapes = found.shapes()
    assert (shapes["labels"], shapes["area"]) == ((20,), (20,))
    assert sorted(shapes) == ["area", "colour", "images", "labels"]
    stack = found.stack("images")
    assert stack[:4] == (20, 7, 11, 1)
    assert stack.run_cells == 60
    assert all(np.array_equal(stack.load(number), DEEP[number]) for number in (0, 9, 10, 19))
    assert found.values("labels", 20).tolist() == LABELS.tolist()
    assert found.values("labels", 21) is None
    with pytest.raises(DataError, match="colour must be H x W x N. Save one channel"):
        found.stack("colour")
