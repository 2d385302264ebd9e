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


def everywhere(shape=(40, 60)):
    return np.ones(shape, bool)


def test_columns_that_alternate():
    pixels = np.full((40, 60), 100, np.uint8)
    pixels[:, ::2] = 104
    found = named(background_features(pixels, everywhere()))
    assert found["noise_x"] == pytest.approx(4)
    assert found["noise_y"] == pytest.approx(0)
    assert found["coarse_noise"] == pytest.approx(-4)  # two apart they are equal
    assert found["column_stripes"] == pytest.approx(4)
    assert found["row_stripes"] == pytest.approx(0)
    turned = named(background_features(np.ascontiguousarray(pixels.T), everywhere((60, 40))))
    assert (turned["noise_y"], turned["row_stripes"]) == pytest.approx((4, 4))
    assert (turned["noise_x"], turned["column_stripes"]) == pytest.approx((0, 0))


def test_sides_slopes_and_twist():
    pixels = np.full((40, 60), 100, np.uint8)
    pixels[4:-4, :6] = pixels[4:-4, -6:] = 108  # 32 of the 40 rows of the left and the right strip
    found = named(background_features(pixels, everywhere()))
    assert found["sides"] == pytest.approx(8 * 32 / 40)
    assert (found["slope_x"], found["slope_y"], found["twist"]) == pytest.approx((0, 0, 0))
    pixels = np.full((40, 60), 100, np.uint8)
    pixels[:4, :6] = pixels[-4:, -6:] = 110
    found = named(background_features(pixels, everywhere()))
    assert found["twist"] == pytest.approx(10)
    assert found["slope_x"] == pytest.approx(0)
    pixels = np.full((40, 60), 100, np.uint8)
    pixels[-4:] = 90
    assert named(background_features(pixels, everywhere()))["slope_y"] == pytest.approx(-10 + 0)


def test_specks_are_cut_and_ends_of_the_scale_are_counted():
    pixels = np.full((40, 60), 100, np.uint8)
    framed = everywhere()
    framed[4:-4, 6:-6] = False
    places = np.flatnonzero(framed)
    pixels.ravel()[places[:8]] = 255
    pixels.ravel()[places[8:12]] = 0
    found = named(background_features(pixels, everywhere()))
    assert found["share_of_255"] == pytest.approx(8 / framed.sum())
    assert found["share_of_0"] == pytest.approx(4 / framed.sum())
    assert found["skew"] == pytest.approx((8 - 4) * 30 / framed.sum())
    assert found["spread"] == pytest.approx(12 * 30 / framed.sum())


def test_three_fifths_of_the_frame_are_enough():
    pixels = np.full((40, 60), 100, np.uint8)
    mask = everywhere()
    mask[:, 30:] = False  # half of the frame
    assert np.isnan(background_features(pixels, mask)).all()
    mask[:, 30:46] = True
    assert named(background_features(pixels, mask))["level"] == 100
