"""Background features: numbers by hand, and what they do not see."""

import numpy as np
import pytest

from fastcell.audit.background import BACKGROUND_FEATURES, background_features


def named(values):
    return dict(zip(BACKGROUND_FEATURES, values.tolist(), strict=True))


def test_background_by_hand():
    pixels = np.full((40, 60), 100, np.uint8)
    pixels[:, -6:] = 108
    pixels[10:30, 10:40] = 250  # a cell
    found = named(background_features(pixels, np.ones((40, 60), bool)))
    assert found["level"] == 100
    assert found["slope_x"] == pytest.approx(8)
    assert found["slope_y"] == pytest.approx(0)
    assert found["share_of_255"] == 0


def test_what_lies_inside_the_frame_is_not_seen():
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 110, (50, 80)).astype(np.uint8)
    other = pixels.copy()
    other[5:-5, 8:-8] = rng.integers(0, 255, (40, 64))
    everywhere = np.ones(pixels.shape, bool)
    assert background_features(pixels, everywhere).tolist() == background_features(other, everywhere).tolist()


def test_a_cell_in_the_frame_is_masked_or_refused():
    pixels = np.full((50, 80), 100, np.uint8)
    mask = np.ones(pixels.shape, bool)
    pixels[:10, :20], mask[:10, :20] = 255, False
    found = named(background_features(pixels, mask))
    assert (found["level"], found["spread"], found["slope_x"]) == (100, 0, 0)
    assert np.isnan(background_features(pixels, np.zeros(pixels.shape, bool))).all()
    assert np.isnan(background_features(pixels[:4], mask[:4])).all()
