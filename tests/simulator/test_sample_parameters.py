"""Drawn parameters: exact where nothing varies, the same for a cell whatever is drawn beside it."""

import numpy as np
import pytest

from fastcell.simulator.parameter_columns import F
from fastcell.simulator.sample_parameters import draw_rows

LATENT = np.log([15.0, 1.0, 0.05, 1.0, 1.0, 1.0, 12.0, 1.0])
LATENT[[1, 3, 4, 5, 7]] = 0.1, 0.6, 30.0, 0.4, 0.3
OPTICS = np.array([np.log(50.0), np.log(300.0), 180.0, np.log(0.02), 20.0, 0.0, 0.0, 0.0, 3.0, 60.0, 1.0])


def draw(indices, *, seed=7, defects=0.0, upper=(0.25, 1.0), spread=0.0):
    """Rows of two recordings: class 0 in a relief, class 1 in bright field."""
    num = len(upper)
    rows = np.zeros((len(indices), len(F)))
    draw_rows(
        np.array(indices, np.int64), np.uint64(seed), defects, np.array(upper), np.arange(num),
        np.arange(num)[::-1].astype(float), np.tile(LATENT, (num, 1)), np.full((num, 8), spread),
        np.tile(OPTICS, (num, 1)), np.full((num, 11), spread), np.array([20.0, 30.0, 400.0, 500.0]),
        np.array([3.0, 1.0]), rows,
    )  # fmt: skip
    return rows


def test_means_are_met_where_nothing_varies():
    rows = draw(range(200))
    np.testing.assert_allclose(rows[:, F.diameter_um], 15)
    np.testing.assert_allclose(rows[:, F.deformation], 0.1)
    np.testing.assert_allclose(rows[:, F.granularity], 12)
    np.testing.assert_allclose(rows[:, F.nucleus_ratio], 0.6)
    assert (set(rows[:, F.height]), set(rows[:, F.width])) == ({50}, {300})
    # half of 15 um, 3 and 1 px/um, stretched by exp(-0.05) and exp(0.05), in shares of the frame
    np.testing.assert_allclose(rows[:, F.half_width], 0.5 * 15 * 3 * np.exp(-0.05) / 300)
    np.testing.assert_allclose(rows[:, F.half_height], 0.5 * 15 * 1 * np.exp(0.05) / 50)
    bright = rows[:, F.relief] == 0
    np.testing.assert_allclose(rows[bright, F.background], 180)
    np.testing.assert_allclose(rows[~bright, F.background], 135)  # the most of a relief
    assert (rows[bright, F.shadow] == 0).all()
    waves = rows[:, F.wave_2 : F.wave_5 + 1]
    np.testing.assert_allclose(np.sqrt(0.5 * (waves**2).sum(1)), 0.05)  # the contour's standard deviation


def test_recordings_get_their_shares_for_any_number_of_cells():
    for num in (40, 400):
        rows = draw(range(num))
        assert abs((rows[:, F.recording] == 0).sum() - num / 4) <= 1
        assert (rows[:, F.class_index] == rows[:, F.recording]).all()
        assert (rows[:, F.relief] == 1 - rows[:, F.recording]).all()


def test_a_cell_is_the_same_whatever_is_drawn_beside_it():
    every = draw(range(30), spread=0.1)
    assert np.array_equal(draw([17, 3], spread=0.1), every[[17, 3]])
    assert not np.array_equal(draw(range(30), spread=0.1, seed=8), every)
    assert len(np.unique(every[:, F.diameter_um])) == 30


def test_spreads_are_standard_deviations_cut_at_three():
    latent = np.log(draw(range(4000), spread=0.1)[:, F.diameter_um]) - np.log(15)
    assert np.abs(latent).max() <= 0.3
    assert latent.std() == pytest.approx(0.1, rel=0.05)
    assert latent.mean() == pytest.approx(0, abs=0.006)


def test_the_share_of_defects_moves_no_other_number():
    clean, spoiled = draw(range(300), spread=0.1), draw(range(300), spread=0.1, defects=0.5)
    assert (clean[:, F.defect] == 0).all()
    assert 100 < (spoiled[:, F.defect] > 0).sum() < 200
    assert set(spoiled[:, F.defect]) == set(range(6))
    own = [F.defect, F.defect_strength, F.center_x, F.center_y, F.partner_x, F.partner_y]
    rest = [column for column in F if column not in own]
    assert np.array_equal(clean[:, rest], spoiled[:, rest])
    healthy = spoiled[:, F.defect] == 0
    assert np.array_equal(clean[healthy], spoiled[healthy])


def test_cut_cells_lie_outside_by_the_stated_part():
    rows = draw(range(600), defects=1.0)
    cut = rows[rows[:, F.defect] == 2]
    x, y, a, b = (cut[:, column] for column in (F.center_x, F.center_y, F.half_width, F.half_height))
    outside = np.max([(a - x) / (2 * a), (x + a - 1) / (2 * a), (b - y) / (2 * b), (y + b - 1) / (2 * b)], axis=0)
    np.testing.assert_allclose(outside, cut[:, F.defect_strength])
    assert outside.min() >= 0.25
    assert outside.max() <= 0.65


def test_doublets_touch():
    rows = draw(range(600), defects=1.0)
    pairs = rows[rows[:, F.defect] == 5]
    gap = np.hypot(
        (pairs[:, F.partner_x] - pairs[:, F.center_x]) / pairs[:, F.half_width],
        (pairs[:, F.partner_y] - pairs[:, F.center_y]) / pairs[:, F.half_height],
    ) / (1 + pairs[:, F.partner_scale])
    assert gap.min() >= 1 - 1e-9
    assert gap.max() <= 1.15 + 1e-9


def test_frames_stay_within_their_limits():
    rows = draw(range(500), spread=1.0)
    assert rows[:, F.height].min() >= 20
    assert rows[:, F.height].max() <= 400
    assert rows[:, F.width].min() >= 30
    assert rows[:, F.width].max() <= 500
