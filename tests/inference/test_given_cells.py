"""Arguments of predict: what is right, and one message in the words of Python for what is not."""

import os

import cv2
import numpy as np
import pytest

from fastcell.errors import ArgumentError, DataError
from fastcell.inference.given_cells import checked_levels, checked_pitches, files_of, in_words_of_python
from fastcell.inference.source_cells import open_cells


def test_paths_are_told_from_arrays(tmp_path):
    (tmp_path / "a b").mkdir()
    assert files_of(f"file://{tmp_path}") == tmp_path
    assert files_of(tmp_path / "a b") == tmp_path / "a b"
    assert files_of(("x.png",)) == files_of(np.array(["x.png"])) == files_of(np.array(["x.png"], object)) == ["x.png"]
    for arrays in (
        [],
        np.zeros((2, 3)),
        np.zeros(3),
        [np.zeros((2, 3))],
        None,
        {"x.png"},
        b"x.png",
        np.array(["x"])[:0],
    ):
        assert files_of(arrays) is None


def test_levels():
    assert checked_levels(None) is None
    assert checked_levels([np.uint16(3), 1400]) == (3.0, 1400.0)
    for wrong in ((1400, 400), (5, 5), (-1, 5), (0, np.inf), (np.nan, 5), (1,), (1, 2, 3), 5, "ab", "word", (None, 3)):
        with pytest.raises(ArgumentError, match=r"^window must be two grey levels.* window=\(400, 1400\)"):
            checked_levels(wrong)


def test_pixel_sizes():
    assert checked_pitches(None, 3) is None
    one = checked_pitches(0.5, 3)
    assert one is not None
    assert one.tolist() == [0.5] * 3
    many = checked_pitches([0.5, np.nan], 2)
    assert many is not None
    np.testing.assert_array_equal(many, np.array([0.5, np.nan], np.float32))
    of_files = checked_pitches(0.25, None)
    assert of_files is not None
    assert float(of_files) == 0.25
    cases = [
        ([0.5, 0.5], 3, r"one number, or one for each of the 3 cells, got \[0.5, 0.5\]"),
        ("x", 3, "one number, or one for each of the 3 cells, got 'x'"),
        (0, 3, "micrometres above 0, got 0"),
        ([0.5, -1.0], 2, "micrometres above 0, got -1"),
        (np.inf, None, "micrometres above 0, got inf"),
        ([0.5], None, "one number for files"),
    ]
    for value, num, message in cases:
        with pytest.raises(ArgumentError, match=f"^um_per_px must be {message}"):
            checked_pitches(value, num)


def test_messages_name_the_arguments_of_python():
    told = "SRC must be x, got None. Give --window 500 501.5. Or --window, --um-per-px 3."
    with pytest.raises(DataError) as caught, in_words_of_python():
        raise DataError(told)
    assert str(caught.value) == "X must be x, got None. Give window=(500, 501.5). Or window, um_per_px 3."


def test_images_at_any_depth(tmp_path):
    for name in ("a/b/c/1.png", "x/2.png", "3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((4, 5), len(name), np.uint8))
    with pytest.raises(DataError, match="--pattern"):
        open_cells(tmp_path)
    cells = open_cells(os.fspath(tmp_path), any_layout=True)
    assert sorted(item.key for item in cells.order) == ["3.png", "a/b/c/1.png", "x/2.png"]
    classes = open_cells(tmp_path / "a" / "b", any_layout=True).listing.classes
    assert classes == open_cells(tmp_path / "a" / "b").listing.classes == ["c"]  # as `pack` reads it
