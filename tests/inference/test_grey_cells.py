"""Cells in memory: forms of arrays, grey levels and images."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastcell.errors import ArgumentError
from fastcell.inference.grey_cells import cell_arrays, grey_cells
from fastcell.loading.preprocessing import Preprocessing

SQUARE = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "values",
    [
        SQUARE,
        SQUARE[:, None],
        SQUARE[..., None],
        torch.from_numpy(SQUARE),
        list(SQUARE),
        [cell[None] for cell in SQUARE],
        [cell[..., None] for cell in SQUARE],
        tuple(torch.from_numpy(SQUARE)),
        np.asfortranarray(SQUARE),
        SQUARE[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
        np.repeat(SQUARE, 2, axis=2)[:, :, ::2],
        np.frombuffer(SQUARE.tobytes(), np.uint8).reshape(SQUARE.shape),
        np.ma.masked_array(SQUARE),
        SQUARE.tolist(),
        (cell for cell in SQUARE),
        np.array([None, *SQUARE], object)[1:],
        [SQUARE[0], SQUARE[1].astype(">i4")],
        torch.from_numpy(SQUARE).float().requires_grad_(),
        torch.from_numpy(SQUARE).bfloat16(),
        torch.from_numpy(SQUARE).float().to_sparse(),
        [Image.fromarray(cell) for cell in SQUARE],
    ],
    ids=[
        *(
            "N H W",
            "N 1 H W",
            "N H W 1",
            "tensor",
            "list",
            "1 H W",
            "H W 1",
            "tensors",
            "Fortran",
            "backwards",
            "steps",
        ),
        *(
            "read only",
            "no mask",
            "numbers",
            "generator",
            "objects",
            "types",
            "gradient",
            "bfloat16",
            "sparse",
            "Pillow",
        ),
    ],
)
def test_forms_of_equal_cells(values):
    cells = cell_arrays(values)
    assert len(cells) == 2
    for cell, expected in zip(cells, SQUARE, strict=True):
        np.testing.assert_array_equal(cell, expected)
    found = grey_cells(cells, Preprocessing(), None)
    np.testing.assert_array_equal(found.pixels, SQUARE.ravel())


def test_one_cell_and_none():
    assert [cell.shape for cell in cell_arrays(SQUARE[0])] == [(3, 4)]
    np.testing.assert_array_equal(cell_arrays(Image.fromarray(SQUARE[0]))[0], SQUARE[0])
    assert len(cell_arrays([])) == len(cell_arrays(np.array([]))) == 0
    assert len(cell_arrays(SQUARE[:0])) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3, 4, 3), np.uint8), r"X must be grey, of the form \(N, H, W\), got 'uint8 \(2, 3, 4, 3\)'"),
        ([SQUARE[0], np.zeros((3, 4, 3), np.uint8)], r"X\[1\] must be grey, of the form \(H, W\)"),
        ([SQUARE[0], np.zeros(5, np.uint8)], r"X\[1\] must be a grey image \(H, W\)"),
        ([np.zeros((0, 4), np.uint8)], r"X\[0\] must be a grey image \(H, W\)"),
        (np.zeros((2, 0, 4), np.uint8), "X must be images of at least 1 pixel"),
        (
            np.zeros((20, 30, 3), np.uint8),
            r"\(20, 30, 3\), which looks like one image with channels'. Take one channel",
        ),
        (np.zeros((20, 30, 1), np.uint8), r"\(20, 30, 1\), which looks like one image with channels"),
        (Image.new("RGBA", (30, 20)), r"\(20, 30, 4\), which looks like one image with channels"),
        (np.ma.masked_greater(SQUARE, 20), "X must be without masked pixels, got '3 of them'"),
        ([SQUARE[0], np.ma.masked_greater(SQUARE[1], 20)], r"X\[1\] must be without masked pixels"),
        (np.uint8(3), r"X must be grey, of the form \(N, H, W\), got 'uint8 \(\)'"),
        (np.zeros(9, np.uint8), r"X must be grey, of the form \(N, H, W\), got 'uint8 \(9,\)'"),
        (np.zeros((1, 2, 3, 4, 5), np.uint8), r"X must be grey, of the form \(N, H, W\)"),
        (None, r"X must be an array \(N, H, W\), a list of cells \(H, W\), or paths of files, got 'NoneType'"),
        ({0: SQUARE[0]}, "got 'dict'"),
        (b"cell.png", "got 'bytes'"),
        (3, "got 'int'"),
        ([SQUARE[0], "cell.png"], r"X\[1\] must be a grey image \(H, W\)"),
        ([None], r"X\[0\] must be a grey image \(H, W\)"),
    ],
)
def test_what_is_no_grey_cell(values, message):
    with pytest.raises(ArgumentError, match=message):
        cell_arrays(values)


def test_ragged_cells_lie_one_after_the_other():
    cells = [np.full((2, 3), 5, np.uint8), np.full((1, 4), 9, np.uint8).T]
    found = grey_cells(cells, Preprocessing(fit="contain"), None)
    assert found.pixels.tolist() == [5] * 6 + [9] * 4
    assert found.heights.tolist() == [2, 4]
    assert found.widths.tolist() == [3, 1]
    assert found.border.tolist() == [5, 9]
    assert grey_cells(cells, Preprocessing(), None).border is None


def test_16_bit_cells_pass_the_window():
    deep = [np.array([[0, 100], [150, 300]], np.uint16)]
    eight = grey_cells(deep, Preprocessing(fit="contain"), (100.0, 200.0))
    assert eight.pixels.tolist() == [0, 0, 127, 255]
    assert eight.pixels.dtype == np.uint8
    sixteen = grey_cells(deep, Preprocessing(fit="contain", depth=16, window=(100, 200)), (100.0, 200.0))
    assert sixteen.pixels.tolist() == [0, 0, 32768, 65535]
    assert sixteen.border.tolist() == eight.border.tolist() == [63.5]
    mixed = grey_cells([np.array([[2]], np.uint8)], Preprocessing(depth=16, window=(0, 9)), (0.0, 9.0))
    assert mixed.pixels.tolist() == [514]


def test_whole_numbers_of_any_type_are_grey_levels():
    for dtype in (np.int64, np.float32):
        assert grey_cells([np.array([[0, 255]], dtype)], Preprocessing(), None).pixels.tolist() == [0, 255]
    for bad, got in (
        (np.array([[0.25, 1]]), "float64 from 0.25 to 1"),
        (np.array([[0, 256]]), "int64 from 0 to 256"),
        (np.array([[-1, 3]]), "int64 from -1 to 3"),
        (np.array([[3, np.nan]]), "float64 that are NaN or infinite"),
        (np.array([[-np.inf, 0]]), "float64 that are NaN or infinite"),
        (np.array([["a"]]), "<U1"),
        (np.array([[True, False]]), "bool"),  # a mask of a cell, not its grey levels
        (np.array([[1 + 0j]]), "complex128"),
        (np.array([[3]], object), "object"),
    ):
        told = rf"X\[7\] must be uint8 or uint16 grey levels, got 'values of type {got}'"
        with pytest.raises(ArgumentError, match=told):
            grey_cells([bad], Preprocessing(), None, first=7)
    with pytest.raises(ArgumentError, match=r"X\[0\] must be 8 bit, .* got '16-bit levels from 3 to 4'.*window="):
        grey_cells([np.array([[3, 4]], np.uint16)], Preprocessing(), None)


def test_images_do_not_depend_on_the_form_or_the_threads():
    cells = np.random.default_rng(0).integers(0, 256, (5, 9, 7)).astype(np.uint8)
    settings = Preprocessing(image_size=16, fit="scale", scale_um_per_px=0.5)
    one = grey_cells(cells, settings, None).images(settings, 0.25, 1)
    many = grey_cells(list(cells), settings, None).images(settings, np.full(5, 0.25), 3)
    np.testing.assert_array_equal(one, many)
    assert one.shape == (5, 1, 16, 16)
    assert not np.array_equal(one, grey_cells(cells, settings, None).images(settings, None, 1))
