"""What the figures of an audit show."""

import warnings

import cv2
import numpy as np

from fastcell.audit.figures import draw_backgrounds


def test_backgrounds_that_no_class_shows_are_drawn_in_silence(tmp_path):
    weight = np.ones((2, 32, 32))
    weight[:, 10:20, 10:20] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_backgrounds(100 * weight, weight, ["A", "B"], tmp_path / "background.png", "two classes")
    assert cv2.imread(str(tmp_path / "background.png")).shape[0] > 100
