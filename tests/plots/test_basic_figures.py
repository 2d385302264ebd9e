"""Figures show what they were given: read back from the pixels and from the drawn objects."""

import cv2
import numpy as np
import pytest

from fastcell.plots import basic_figures


def read(path):
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return picture


def test_confusion_darkens_with_the_share(tmp_path):
    basic_figures.draw_confusion(np.array([[90, 10], [0, 0]]), ["A", "B"], tmp_path / "c")
    mostly_right = read(tmp_path / "c.png").mean()
    basic_figures.draw_confusion(np.array([[0, 0], [0, 0]]), ["A", "B"], tmp_path / "empty")
    assert read(tmp_path / "empty.png").mean() > mostly_right + 5


def test_curves_leave_empty_cells_out(tmp_path):
    log = tmp_path / "metrics.csv"
    log.write_text("step,train_loss,valid_loss,valid_accuracy\n10,0.5,,\n20,0.4,0.6,0.8\n30,,0.5,0.9\n")
    basic_figures.draw_curves(log, tmp_path / "curves")
    assert (read(tmp_path / "curves.png") < 128).any()


def test_curves_of_an_empty_log(tmp_path):
    log = tmp_path / "metrics.csv"
    log.write_text("step,train_loss\n")
    basic_figures.draw_curves(log, tmp_path / "curves")
    assert read(tmp_path / "curves.png").size


def test_contact_sheet_keeps_proportions_and_grey_levels(tmp_path):
    wide = np.full((20, 200), 60, np.uint8)
    small = np.full((20, 50), 120, np.uint8)
    basic_figures.draw_contact_sheet({"wide": [wide], "small": [small]}, tmp_path / "sheet.png", "t", columns=2)
    sheet = read(tmp_path / "sheet.png")
    sizes = {}
    for level in (60, 120):
        inside = sheet == level  # letters hold the same level here and there: take full rows and columns alone
        sizes[level] = ((inside.sum(1) > 40).sum(), (inside.sum(0) > 12).sum())
    assert sizes[60][1] / sizes[60][0] == pytest.approx(10, rel=0.15)
    assert sizes[120][1] / sizes[60][1] == pytest.approx(0.25, rel=0.1)


def test_class_counts_are_as_high_as_the_counts(tmp_path):
    basic_figures.draw_class_counts({"a": 10, "b": 100}, {"a": 100, "b": 100}, tmp_path / "n", "t")
    picture = cv2.imread(str(tmp_path / "n.png"))
    blue = (picture[..., 0] > 150) & (picture[..., 2] < 60)  # the bars before balancing, in OpenCV's order B G R
    heights = blue.sum(0)
    middle = len(heights) // 2
    assert heights[:middle].max() / heights[middle:].max() == pytest.approx(0.1, abs=0.03)
    assert (tmp_path / "n.csv").read_text().splitlines()[1:] == ['"a",10,100', '"b",100,100']
    assert (tmp_path / "n.pdf").read_bytes().startswith(b"%PDF")


def test_a_confusion_of_many_classes_stays_of_a_size_that_can_be_read(tmp_path):
    basic_figures.draw_confusion(np.eye(300, dtype=int), [f"c{number}" for number in range(300)], tmp_path / "many")
    assert max(read(tmp_path / "many.png").shape) < 4_000
