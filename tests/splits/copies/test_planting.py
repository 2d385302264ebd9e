"""Copies made on purpose: each kind changes what its name says, and nothing else."""

import cv2
import numpy as np
import pytest

from fastcell.splits.copies.planting import BLUR_PX, GAIN, OFFSET, PLANTED_KINDS, SCALES, SHIFT, STRONG_JPEG, plant

SIDE = 41


def cell():
    """(41, 41): a smooth disc off its centre, brighter on one side, on grey 100."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    inside = 1 / (1 + np.exp(np.hypot(y, x - 3) - 9))
    return (100 + inside * (60 + 3 * x + 2 * y)).astype(np.uint8)


def center(image):
    weight = np.abs(image.astype(float) - 100)
    weight[weight < 8] = 0
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def planted(kind, num=20):
    rng = np.random.default_rng(0)
    return [plant(cell(), kind, rng) for _ in range(num)]


@pytest.mark.parametrize("kind", [kind for kind in PLANTED_KINDS if kind != "rescaled"])
def test_size_and_kind_of_pixels_stay(kind):
    wide = np.ascontiguousarray(cell()[:30])
    sizes = {plant(wide, kind, np.random.default_rng(seed)).shape for seed in range(8)}
    assert sizes == ({(30, SIDE), (SIDE, 30)} if kind == PLANTED_KINDS[0] else {(30, SIDE)})
    assert all(image.dtype == np.uint8 for image in planted(kind, 2))


def test_rescaled_ones_are_larger_or_smaller_with_or_without_their_canvas():
    images = planted("rescaled", 60)
    area = (np.abs(cell().astype(float) - 100) > 8).sum()
    factors = np.array([((np.abs(image.astype(float) - 100) > 8).sum() / area) ** 0.5 for image in images])
    low, high = SCALES
    assert low - 0.02 <= factors.min() < 0.85
    assert 1.15 < factors.max() <= high + 0.02
    resized = [image.shape != (SIDE, SIDE) for image in images]
    assert 15 < sum(resized) < 45
    for image, factor, whole in zip(images, factors, resized, strict=True):
        assert image.dtype == np.uint8
        assert image.shape[0] == pytest.approx(SIDE * factor if whole else SIDE, abs=1.5)


def test_strong_compression_changes_more_than_weak():
    changes = [np.abs(planted(kind, 1)[0].astype(int) - cell()).mean() for kind in (STRONG_JPEG, "shifted")]
    assert 0 < changes[0] < changes[1]
    assert not np.array_equal(planted(STRONG_JPEG, 1)[0], cell())


def test_turned_and_mirrored_ones_are_nearly_the_same_pixels():
    ways = [np.rot90(image, turn) for image in (cell(), cell()[:, ::-1]) for turn in range(4)]
    nearest = [[np.abs(image.astype(int) - way).mean() for way in ways] for image in planted(PLANTED_KINDS[0], 40)]
    assert np.min(nearest, axis=1).max() < 2  # JPEG alone
    assert len(set(np.argmin(nearest, axis=1).tolist())) == 8


def test_angles_keep_the_middle_and_shifts_keep_the_angle():
    middle = (SIDE - 1) / 2
    far = [np.hypot(*(center(image) - middle)) for image in planted(PLANTED_KINDS[1])]
    np.testing.assert_allclose(far, np.hypot(*(center(cell()) - middle)), atol=0.5)
    moved = np.array([center(image) - center(cell()) for image in planted(PLANTED_KINDS[2], 40)])
    assert np.abs(moved).max() <= SHIFT * SIDE + 0.3
    assert np.abs(moved).max() > 0.5 * SHIFT * SIDE


def test_corners_that_come_in_have_the_level_of_the_border():
    framed = np.full((SIDE, SIDE), 90, np.uint8)
    framed[5:-5, 5:-5] = 200
    corners = [
        plant(framed, PLANTED_KINDS[1], np.random.default_rng(seed))[[0, 0, -1, -1], [0, -1, 0, -1]]
        for seed in range(5)
    ]
    assert set(np.concatenate(corners).tolist()) == {90}


def test_brightness_changes_by_gain_and_offset_alone():
    for image in planted(PLANTED_KINDS[3]):
        slope, level = np.polyfit(cell().ravel().astype(float), image.ravel().astype(float), 1)
        if image.max() < 255:
            assert GAIN[0] - 0.02 <= slope <= GAIN[1] + 0.02
            assert abs(level) <= OFFSET + 2


def test_blur_is_a_gaussian():
    sharp = np.zeros((SIDE, SIDE), np.uint8)
    sharp[SIDE // 2, SIDE // 2] = 255
    image = plant(sharp, PLANTED_KINDS[4], np.random.default_rng(0)).astype(float)
    low, high = (cv2.GaussianBlur(sharp.astype(np.float32), (0, 0), sigma).max() for sigma in BLUR_PX)
    assert high - 1 <= image.max() <= low + 1
    np.testing.assert_array_equal(image, image.T)


def test_the_generator_makes_the_copy():
    for kind in PLANTED_KINDS:
        one, same, other = (plant(cell(), kind, np.random.default_rng(seed)) for seed in (1, 1, 4))
        assert np.array_equal(one, same)
        assert np.array_equal(one, other) == (kind == STRONG_JPEG)  # the only kind without a draw
