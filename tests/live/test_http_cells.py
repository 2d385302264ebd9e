"""Bodies of HTTP requests: arrays and images by value, and bodies that hold no cells."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from fixtures.live_servers import some_cells

from fastcell.live.http_cells import BodyError, read_parts


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("form", ["N", "one", "channel", "fortran"])
def test_arrays_come_out_as_they_went_in(kind, form):
    cells = (some_cells(3).astype(np.uint16) * (1 if kind == "u1" else 200)).astype(kind)
    given = {"N": cells, "one": cells[0], "channel": cells[:, None], "fortran": np.asfortranarray(cells)}[form]
    found = read_parts([("x.npy", npy(given))])
    assert found.keys == [f"x.npy/{number}" for number in range(1 if form == "one" else 3)]
    assert found.reasons == [None] * len(found.keys)
    for one, cell in zip(found.cells, cells, strict=False):
        assert one is not None
        assert one.dtype == cell.dtype.newbyteorder("=")
        np.testing.assert_array_equal(one, cell)


def test_images_are_decoded_and_damaged_ones_have_a_reason():
    cell = some_cells(1)[0]
    png = cv2.imencode(".png", cell)[1].tobytes()
    tif = io.BytesIO()
    tifffile.imwrite(tif, cell.astype(np.uint16) * 9)
    parts = [("a.png", png), ("b.tif", tif.getvalue()), ("c.png", png[: len(png) // 2]), ("d", b"text"), ("", b"")]
    found = read_parts(parts)
    np.testing.assert_array_equal(found.cells[0], cell)
    np.testing.assert_array_equal(found.cells[1], cell.astype(np.uint16) * 9)
    assert found.cells[2:] == [None, None, None]
    assert found.reasons[:2] == [None, None]
    assert found.reasons[3:] == ["not an image", "empty file"]
    assert found.reasons[2]
    assert found.keys == ["a.png", "b.tif", "c.png", "d", "0"]


@pytest.mark.parametrize(
    "data",
    [
        npy(np.zeros((2, 3, 4), np.float32)),
        npy(np.zeros((2, 3, 4), np.int64)),
        npy(np.zeros((2, 3, 4, 5), np.uint8)),
        npy(np.zeros(7, np.uint8)),
        npy(np.zeros((2, 0, 4), np.uint8)),
        npy(np.zeros((2, 3, 4), np.uint8))[:-1],
        npy(np.zeros((2, 3, 4), np.uint8)).replace(b"(2, 3, 4)", b"(9, 9, 9)"),
        npy(np.array([{"a": 1}], object)),
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff" + b"x" * 100,
        npy(np.zeros((2, 3, 4), np.uint8)).replace(b"'|u1'", b"'|x1'"),
    ],
)
def test_other_arrays_are_an_error(data):
    with pytest.raises(BodyError, match="the body"):
        read_parts([("", data)])


def test_too_many_cells_are_refused_before_they_are_made():
    """One byte a cell: 64 MiB of them would be gigabytes of arrays."""
    with pytest.raises(BodyError, match="at most 10,000 cells, got 2,000,000"):
        read_parts([("", npy(np.zeros((2_000_000, 1, 1), np.uint8)))])
    part = ("", npy(np.zeros((6_000, 1, 1), np.uint8)))
    with pytest.raises(BodyError, match="got 12,000"):
        read_parts([part, part])
    with pytest.raises(BodyError, match="got 10,001"):
        read_parts([("", npy(np.zeros((10_000, 1, 1), np.uint8))), ("a.png", b"x")])
